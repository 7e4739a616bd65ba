import subprocess
import sys

import pytest
import timm
import torch

from lymphocytosis.encoders import checks, weights
from lymphocytosis.encoders.checks import check_name, check_task, check_weights
from lymphocytosis.encoders.weights import initial_state
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8)


class TestName:
    def test_an_unknown_one_is_answered_with_near_ones(self):
        with pytest.raises(UserError, match=r"encoder\.name.*eficientnet_b7.*efficientnet_b7"):
            check_name("tf_eficientnet_b7")

    def test_a_tag_is_accepted(self):
        check_name("tf_efficientnet_b7.aa_in1k")

    def test_timms_source_tells_of_models_as_timm_does(self):
        listed = timm.list_models()[::40]
        assert all(checks._is_in_source(name) for name in listed)
        # Functions of timm, but no models.
        for name in ("create_model", "_create_resnet", "resnet", "efficientnet"):
            assert checks._is_in_source(name) == timm.is_model(name)

    def test_a_known_one_costs_no_import_of_torch(self):
        code = (
            "import sys; from lymphocytosis.encoders.checks import check_name as c; "
            "c('tf_efficientnet_b7.aa_in1k'); "
            "print([m for m in ('torch', 'timm') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stderr


class TestWeights:
    def test_a_missing_file_is_refused_before_any_work(self, tmp_path):
        missing = ENCODER.model_copy(update={"weights": str(tmp_path / "none.pth")})
        with pytest.raises(UserError, match=r"encoder\.weights.*none\.pth"):
            check_weights(missing)

    def test_without_the_hub_the_message_names_the_parameter(self, monkeypatch):
        def unreachable(*args, **kwargs):
            raise OSError("no route to host")

        monkeypatch.setattr(weights.timm, "create_model", unreachable)
        from_hub = ENCODER.model_copy(update={"weights": "timm"})
        with pytest.raises(UserError, match=r"encoder\.weights is 'timm'.*no route.*'random'"):
            initial_state(from_hub, torch.nn.Identity())
        with pytest.raises(UserError, match=r"encoder\.weights is 'timm'"):
            check_weights(from_hub)


class TestTask:
    @pytest.mark.parametrize("name", ["simclr", "vicreg"])
    def test_without_lightly_the_message_says_what_to_install(
        self, pretext_parameters, monkeypatch, name
    ):
        monkeypatch.setitem(sys.modules, "lightly", None)
        with pytest.raises(UserError, match=rf"'{name}'.*pip install 'lymphocytosis\[ssl\]'"):
            check_task(ENCODER, pretext_parameters(name=name))

    @pytest.mark.parametrize("name", ["autoencoder", "frozen"])
    def test_other_tasks_need_an_encoder_and_no_lightly(
        self, pretext_parameters, monkeypatch, name
    ):
        monkeypatch.setitem(sys.modules, "lightly", None)
        pretext = pretext_parameters(name=name)
        check_task(ENCODER, pretext)
        with pytest.raises(UserError, match=r"encoder\.weights.*none\.pth"):
            check_task(ENCODER.model_copy(update={"weights": "none.pth"}), pretext)
        with pytest.raises(UserError, match=r"encoder\.name.*'nothing'"):
            check_task(ENCODER.model_copy(update={"name": "nothing"}), pretext)

    def test_igpt_needs_neither(self, pretext_parameters):
        nothing = ENCODER.model_copy(update={"name": "nothing", "weights": "none.pth"})
        check_task(nothing, pretext_parameters(name="igpt"))
