import os

import pytest
import timm
import torch

from lymphocytosis.encoders.weights import fingerprint, initial_state
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters


def test_files_of_the_same_name_are_distinguished(tmp_path):
    path = tmp_path / "weights.pth"
    digests = []
    for content in (b"first", b"other"):
        path.write_bytes(content)
        encoder = EncoderParameters(name="resnet18", weights=str(path), small_dim=8)
        digests.append(fingerprint(encoder))
    assert len(set(digests)) == 2
    assert fingerprint(encoder.model_copy(update={"weights": "random"})) == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
class TestAFileOfWeights:
    @pytest.fixture
    def model(self):
        return timm.create_model("resnet18", num_classes=0)

    @pytest.mark.parametrize("as_archive", [True, False])
    def test_is_read_in_both_of_torchs_formats(self, tmp_path, model, as_archive):
        path = tmp_path / "weights.pth"
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=as_archive)
        state = initial_state(
            EncoderParameters(name="resnet18", weights=str(path), small_dim=8), model
        )
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("as_archive", [True, False])
    def test_that_runs_code_is_refused_in_either_form(self, tmp_path, model, as_archive):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "owned"),)

        path = tmp_path / "weights.pth"
        torch.save({"weight": Evil()}, path, _use_new_zipfile_serialization=as_archive)
        encoder = EncoderParameters(name="resnet18", weights=str(path), small_dim=8)
        with pytest.raises(UserError, match=r"encoder\.weights: .* can't be loaded as a model"):
            initial_state(encoder, model)
        assert not (tmp_path / "owned").exists()
