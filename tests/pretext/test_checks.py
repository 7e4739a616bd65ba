import sys

import pytest

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters
from lymphocytosis.pretext.checks import check_task
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)


@pytest.mark.parametrize("name", ["simclr", "vicreg", "dino", "lejepa"])
def test_without_lightly_the_message_says_what_to_install(pretext_parameters, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(UserError, match=rf"'{name}'.*pip install 'lymphocytosis\[ssl\]'"):
        check_task(ENCODER, pretext_parameters(name=name), 64)


@pytest.mark.parametrize("name", ["autoencoder", "frozen"])
def test_other_tasks_need_an_encoder_and_no_lightly(pretext_parameters, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "lightly", None)
    pretext = pretext_parameters(name=name)
    check_task(ENCODER, pretext, 64)
    with pytest.raises(UserError, match=r"encoder\.weights.*none\.pth"):
        check_task(ENCODER.model_copy(update={"weights": "none.pth"}), pretext, 64)
    with pytest.raises(UserError, match=r"encoder\.name.*'nothing'"):
        check_task(ENCODER.model_copy(update={"name": "nothing"}), pretext, 64)


def test_igpt_needs_neither(pretext_parameters):
    nothing = ENCODER.model_copy(update={"name": "nothing", "weights": "none.pth"})
    check_task(nothing, pretext_parameters(name="igpt"), 64)


@pytest.mark.parametrize("change", [{"pool": ("token",)}, {"layers": (2,)}, {"zooms": (1.0, 0.5)}])
@pytest.mark.parametrize("name", ["autoencoder", "igpt"])
def test_pooling_without_effect_is_refused(pretext_parameters, name, change):
    encoder = ENCODER.model_copy(update=change)
    with pytest.raises(UserError, match=rf"'{name}' uses the mean .*encoder\.zooms to \[1\.0\]"):
        check_task(encoder, pretext_parameters(name=name), 64)


def test_a_class_token_that_is_not_there_is_refused(pretext_parameters):
    encoder = ENCODER.model_copy(update={"pool": ("token",)})
    with pytest.raises(UserError, match="no class token"):
        check_task(encoder, pretext_parameters(name="frozen"), 64)
