from dataclasses import replace

import numpy as np
import pytest
import torch

from lymphocytosis.encoders.checkpoint import (
    Origin,
    check_same_pictures,
    fingerprint,
    origin,
    pack,
    unpack,
    without_training,
)
from lymphocytosis.encoders.pooled import PooledEncoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters, ImageParameters
from lymphocytosis.pretext.task import build_task
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)
IMAGE = ImageParameters(
    source_size=224, crop=112, size=64,
    unreadable="leave_out", other_size="convert", other_mode="convert",
)  # fmt: skip
TASKS = ["autoencoder", "frozen", "simclr", "vicreg", "igpt"]


def build(pretext):
    """The model that the task of this name embeds with."""
    if pretext.name in ("simclr", "vicreg"):
        pytest.importorskip("lightly", reason="needs the extra ssl")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    model = build_task(ENCODER, pretext, images, np.arange(3), 0).kept
    if hasattr(model, "mean"):
        model.mean.fill_(0.25)  # as pretrained weights would fill it
    return model


@pytest.fixture
def packed(request, pretext_parameters):
    pretext = pretext_parameters(name=getattr(request, "param", "autoencoder"))
    model = build(pretext)
    return pack(type(model), dict(model.state_dict()), ENCODER, IMAGE, pretext, seed=3)


@pytest.mark.parametrize("name", TASKS)
def test_the_rebuilt_model_embeds_the_same(pretext_parameters, tmp_path, name):
    pretext = pretext_parameters(name=name)
    original = build(pretext).eval()
    packed = pack(type(original), dict(original.state_dict()), ENCODER, IMAGE, pretext, seed=3)
    torch.save(packed, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    rebuilt, image = unpack(loaded)
    images = torch.rand(2, 3, 64, 64)
    assert image == IMAGE
    assert not rebuilt.training
    for then, now in zip(original.embed(images), rebuilt.embed(images), strict=True):
        assert torch.equal(then, now)
    assert rebuilt.embed(images)[1].shape == (2, 8)
    assert fingerprint(loaded) == fingerprint(packed)


@pytest.mark.parametrize("packed", TASKS, indirect=True)
def test_without_what_only_training_needs_it_embeds_the_same(packed):
    packed["parameters"]["encoder"]["weights"] = "/home/ward/dino.pth"
    carried = without_training(packed)
    assert carried["parameters"]["encoder"]["weights"] == "dino.pth"
    assert packed["parameters"]["encoder"]["weights"] == "/home/ward/dino.pth"
    assert not [name for name in carried["state_dict"] if name.startswith("decoder")]
    (then, _), (now, _) = unpack(packed), unpack(carried)
    images = torch.rand(2, 3, 64, 64)
    assert all(
        torch.equal(*pair) for pair in zip(then.embed(images), now.embed(images), strict=True)
    )
    assert origin(carried) == replace(origin(packed), weights="dino.pth")
    assert fingerprint(without_training(carried)) == fingerprint(carried)


def test_the_fingerprint_heeds_the_tasks_own_block_and_no_others(pretext_parameters):
    def of(name, **changes):
        pretext = pretext_parameters(name=name, **changes)
        return fingerprint(pack(PooledEncoder, {}, ENCODER, IMAGE, pretext, seed=3))

    other = {"igpt": {"side": 4, "colours": 8, "layers": 2, "width": 8, "heads": 2}}
    assert of("igpt") != of("igpt", **other)
    assert of("autoencoder") == of("autoencoder", **other)
    assert of("simclr") == of("simclr", **other)
    assert of("frozen") != of("autoencoder")


@pytest.mark.parametrize("kind", ["classifiers", "", None, ["igpt"], {"igpt": 1}, 1])
def test_another_kind_of_model_is_refused(kind):
    for read in (unpack, fingerprint, origin, without_training):
        with pytest.raises(UserError, match="another kind of model"):
            read({"kind": kind, "parameters": {}, "state_dicts": {}})


@pytest.mark.parametrize("packed", TASKS, indirect=True)
@pytest.mark.parametrize("spoil", ["parameters", "state_dict"])
def test_a_part_that_is_missing_is_refused(packed, spoil):
    del packed[spoil]
    for read in (unpack, fingerprint, *([origin] if spoil == "parameters" else [])):
        with pytest.raises(UserError, match="Run ssl_pretrain again"):
            read(packed)


@pytest.mark.parametrize("packed", TASKS, indirect=True)
def test_the_origin_is_that_of_the_parameters(packed, pretext_parameters):
    name = packed["parameters"]["pretext"]["name"]
    assert origin(packed) == Origin(name, pretext_parameters().images, "random")


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("pretext", "images", "none"),
        ("pretext", "name", 1),
        ("encoder", "weights", 1),
        ("encoder", "more", 1),
    ],
)
def test_an_origin_that_is_none_is_refused(packed, block, key, value):
    packed["parameters"][block][key] = value
    with pytest.raises(UserError, match="Run ssl_pretrain again"):
        origin(packed)


@pytest.mark.parametrize("packed", TASKS, indirect=True)
@pytest.mark.parametrize("content", [{}, {1: torch.zeros(1)}, {"a": 1}, [], None, torch.zeros(2)])
def test_a_state_dict_that_is_none_of_the_models_is_refused(packed, content):
    packed["state_dict"] = content
    with pytest.raises(UserError, match="can't be rebuilt"):
        unpack(packed)


@pytest.mark.parametrize("packed", TASKS, indirect=True)
@pytest.mark.parametrize(
    "change", [lambda w: w * torch.nan, lambda w: w.double(), lambda w: w[:0], lambda w: w.tolist()]
)
def test_a_weight_that_is_none_is_refused(packed, change):
    state = dict(packed["state_dict"])
    name = next(name for name, value in state.items() if value.is_floating_point())
    packed["state_dict"] = state | {name: change(state[name])}
    with pytest.raises(UserError, match=r"can't be rebuilt.*Run ssl_pretrain again"):
        unpack(packed)


@pytest.mark.parametrize("packed", TASKS, indirect=True)
def test_the_state_dict_of_another_kind_is_refused(packed):
    packed["kind"] = "autoencoder" if packed["kind"] == "igpt" else "igpt"
    with pytest.raises(UserError, match="can't be rebuilt"):
        unpack(packed)


@pytest.mark.parametrize("packed", ["igpt"], indirect=True)
@pytest.mark.parametrize(("key", "value"), [("layers", 10**9), ("width", 17), ("side", "8")])
def test_an_impossible_size_is_refused(packed, key, value):
    packed["parameters"]["pretext"]["igpt"][key] = value
    with pytest.raises(UserError, match="can't be rebuilt"):
        unpack(packed)


@pytest.mark.parametrize("packed", ["igpt"], indirect=True)
def test_sizes_beyond_what_the_file_holds_take_no_memory(packed):
    # 77 thousand million weights: more than 300 GB.
    packed["parameters"]["pretext"]["igpt"] |= {"layers": 96, "width": 8192}
    with pytest.raises(UserError, match="can't be rebuilt"):
        unpack(packed)


@pytest.mark.parametrize("key", ["source_size", "crop", "size"])
def test_pictures_of_another_shape_are_refused(key):
    other = IMAGE.model_copy(update={key: getattr(IMAGE, key) + 10})
    check_same_pictures(IMAGE, IMAGE.model_copy(update={"other_size": "refuse"}))
    with pytest.raises(UserError, match=rf"image\.{key}"):
        check_same_pictures(IMAGE, other)
