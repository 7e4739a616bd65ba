import numpy as np
import pytest
import torch

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters, IgptParameters
from lymphocytosis.pretext.igpt import build, learn_palette
from lymphocytosis.pretext.task import TaskInputs
from tests.conftest import POOLED


def parameters(**changes):
    small = {"side": 4, "colours": 6, "layers": 4, "width": 12, "heads": 3}
    return IgptParameters(**(small | changes))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)


class TestPalette:
    def test_it_finds_the_colours_that_there_are(self):
        generator = np.random.default_rng(0)
        true = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
        images = true[generator.integers(0, 4, (20, 16, 16))]
        found = learn_palette(parameters(side=16, colours=4), images, np.arange(20), 0) * 255
        assert {tuple(colour) for colour in found.round().int().tolist()} == {
            tuple(colour) for colour in true.tolist()
        }

    def test_only_the_rows_asked_for_are_seen(self, images):
        changed = images.copy()
        changed[5:] = 0
        rows = np.arange(5)
        first, second = (learn_palette(parameters(), i, rows, 0) for i in (images, changed))
        assert torch.equal(first, second)

    def test_more_colours_than_pixels_are_refused(self, images):
        with pytest.raises(UserError, match=r"igpt\.colours is 17.*16 pixels"):
            learn_palette(parameters(colours=17), images, np.arange(1), 0)


def test_same_seed_same_model(images, pretext_parameters):
    encoder = EncoderParameters(name="not_used", weights="random", small_dim=5, **POOLED)
    pretext = pretext_parameters(name="igpt")
    first, again, other = (
        build(TaskInputs(encoder, pretext, images, np.arange(8), seed)).kept.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("palette", "projection", "positions", "blocks.0.attend.weight"):
        assert not torch.equal(first[name], other[name])
