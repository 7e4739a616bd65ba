import pytest
import torch

from lymphocytosis.encoders.checkpoint import check_same_pictures, pack, unpack
from lymphocytosis.encoders.pretrain import build_autoencoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters, ImageParameters, PretextParameters

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8)
IMAGE = ImageParameters(
    source_size=224, crop=112, size=64,
    unreadable="leave_out", other_size="convert", other_mode="convert",
)  # fmt: skip
PRETEXT = PretextParameters(
    name="autoencoder", images="all", epochs=1, batch_size=4, learning_rate=0.002,
    reduction="mean", upright_weight=1, keep="last", early_epoch=1,
)  # fmt: skip


@pytest.fixture
def packed():
    state = build_autoencoder(ENCODER, 64, 0).state_dict()
    return pack(dict(state), ENCODER, IMAGE, PRETEXT, seed=3)


def test_the_rebuilt_model_embeds_the_same(packed):
    original = build_autoencoder(ENCODER, 64, 0).eval()
    rebuilt, image = unpack(packed)
    images = torch.rand(2, 3, 64, 64)
    assert image == IMAGE
    assert not rebuilt.training
    assert torch.equal(rebuilt.embed(images)[1], original.embed(images)[1])


def test_another_kind_of_model_is_refused():
    with pytest.raises(UserError, match="another kind of model"):
        unpack({"kind": "classifiers"})


@pytest.mark.parametrize("spoil", ["parameters", "state_dict"])
def test_a_part_that_is_missing_is_refused(packed, spoil):
    del packed[spoil]
    with pytest.raises(UserError, match="Run ssl_pretrain again"):
        unpack(packed)


def test_a_state_dict_of_another_architecture_is_refused(packed):
    del packed["state_dict"]["narrow.bias"]
    with pytest.raises(UserError, match="can't be rebuilt"):
        unpack(packed)


@pytest.mark.parametrize("key", ["source_size", "crop", "size"])
def test_pictures_of_another_shape_are_refused(key):
    other = IMAGE.model_copy(update={key: getattr(IMAGE, key) + 10})
    check_same_pictures(IMAGE, IMAGE.model_copy(update={"other_size": "refuse"}))
    with pytest.raises(UserError, match=rf"image\.{key}"):
        check_same_pictures(IMAGE, other)
