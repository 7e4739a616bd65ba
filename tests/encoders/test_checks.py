import pytest
import torch

from lymphocytosis.encoders.checks import check_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)


def changed(**changes):
    return ENCODER.model_copy(update=changes)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.weights.*none\.pth"):
        check_encoder(changed(weights=str(tmp_path / "none.pth")), 64)


def test_a_file_of_another_encoder_is_refused(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth does not fit encoder\.name"):
        check_encoder(changed(weights=str(tmp_path / "other.pth")), 64)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("crossvit_tiny_240", 240, "several sets of features"),
        ("pit_ti_224", 224, "1 tokens"),
        ("levit_128s", 100, "image.size 224"),
    ],
)
def test_an_encoder_that_can_not_be_used_is_refused_by_name(name, size, why):
    with pytest.raises(UserError, match=rf"encoder\.name '{name}' can't be used with .*{why}"):
        check_encoder(changed(name=name), size)
