import os
from argparse import Namespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from lymphocytosis.encoders import weights
from lymphocytosis.encoders.encoder import build_encoder
from lymphocytosis.encoders.weights import fingerprint, initial_state
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters
from tests.conftest import POOLED


def test_files_of_the_same_name_are_distinguished(tmp_path):
    path = tmp_path / "weights.pth"
    digests = []
    for content in (b"first", b"other"):
        path.write_bytes(content)
        encoder = EncoderParameters(name="resnet18", weights=str(path), small_dim=8, **POOLED)
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
            EncoderParameters(name="resnet18", weights=str(path), small_dim=8, **POOLED),
            model,
            64,
        )
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("as_archive", [True, False])
    def test_that_runs_code_is_refused_in_either_form(self, tmp_path, model, as_archive):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "owned"),)

        path = tmp_path / "weights.pth"
        torch.save({"weight": Evil()}, path, _use_new_zipfile_serialization=as_archive)
        encoder = EncoderParameters(name="resnet18", weights=str(path), small_dim=8, **POOLED)
        with pytest.raises(UserError, match=r"encoder\.weights: .* can't be loaded as a model"):
            initial_state(encoder, model, 64)
        assert not (tmp_path / "owned").exists()


def small_model():
    return timm.create_model("test_resnet", num_classes=0)


def read(path, model):
    encoder = EncoderParameters(name="test_resnet", weights=str(path), small_dim=8, **POOLED)
    return initial_state(encoder, model, 64)


class TestFormsOfAFile:
    @pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
    @pytest.mark.parametrize("below", [None, "state_dict", "model", "teacher"])
    def test_the_weights_are_found(self, tmp_path, prefix, below):
        source = small_model().state_dict()
        content = {prefix + name: value for name, value in source.items()}
        content |= {"module.head.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}
        if below:
            other = {"student": {prefix + name: value + 1 for name, value in source.items()}}
            content = {"epoch": 3, "args": Namespace(lr=0.1), "optimizer": {}, below: content}
            content |= other
        torch.save(content, tmp_path / "weights.pth")
        state = read(tmp_path / "weights.pth", small_model())
        assert all(torch.equal(state[name], value) for name, value in source.items())
        assert len(state) == len(source)

    @pytest.mark.parametrize("prefix", ["", "backbone."])
    def test_safetensors_are_read(self, tmp_path, prefix):
        source = small_model().state_dict()
        content = {prefix + name: value for name, value in source.items()}
        save_file(content, tmp_path / "weights.safetensors")
        state = read(tmp_path / "weights.safetensors", small_model())
        assert all(torch.equal(state[name], value) for name, value in source.items())

    def test_counters_of_batches_may_be_missing(self, tmp_path):
        source = small_model().state_dict()
        named = {k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}
        torch.save(named, tmp_path / "weights.pth")
        small_model().load_state_dict(read(tmp_path / "weights.pth", small_model()))

    @pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 16])
    def test_safetensors_that_are_none_are_refused(self, tmp_path, content):
        (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"encoder\.weights: .*weights\.safetensors"):
            read(tmp_path / "weights.safetensors", small_model())

    def test_two_models_that_fit_are_refused(self, tmp_path):
        source = small_model().state_dict()
        content = {
            prefix + n: v for prefix in ("encoder_q.", "encoder_k.") for n, v in source.items()
        }
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(UserError, match=r"several models.*'encoder_q\.', 'encoder_k\.'"):
            read(tmp_path / "weights.pth", small_model())

    def test_the_nearest_prefix_tells_what_is_missing(self, tmp_path):
        source = small_model().state_dict()
        missing = list(source)[-2]
        torch.save(
            {f"module.{n}": v for n, v in source.items() if n != missing}, tmp_path / "w.pth"
        )
        with pytest.raises(UserError, match=rf"w\.pth does not fit .*: 1 of .* first: {missing}"):
            read(tmp_path / "w.pth", small_model())

    def test_values_that_are_not_finite_are_refused(self, tmp_path):
        source = small_model().state_dict()
        first = next(iter(source))
        source[first][0] = np.nan
        torch.save(source, tmp_path / "weights.pth")
        with pytest.raises(UserError, match=rf"weights\.pth: {first} has values .* not finite"):
            read(tmp_path / "weights.pth", small_model())


class TestTimmsHub:
    ENCODER = EncoderParameters(name="resnet18", weights="timm", small_dim=8, **POOLED)

    def test_without_internet_it_is_asked_once(self, monkeypatch, tmp_path):
        asked = []

        def unreachable(url, timeout):
            asked.append(url)
            raise OSError("no route to host")

        def built(*args, **kwargs):
            raise AssertionError("the hub's client would ask six times")

        monkeypatch.setattr(weights.huggingface_hub, "get_hf_file_metadata", unreachable)
        monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(weights, "build_model", built)
        with pytest.raises(UserError, match=r"encoder\.weights is 'timm'.*no route.*'random'"):
            initial_state(self.ENCODER, small_model(), 64)
        assert len(asked) == 1

    def test_weights_in_the_cache_need_no_answer(self, monkeypatch):
        def asked(*args, **kwargs):
            raise AssertionError("the hub was asked")

        monkeypatch.setattr(weights.huggingface_hub, "get_hf_file_metadata", asked)
        monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: "file")
        model = small_model()
        monkeypatch.setattr(weights, "build_model", lambda *_, **__: model)
        assert initial_state(self.ENCODER, model, 64).keys() == model.state_dict().keys()

    def test_weights_of_a_fixed_size_are_fitted_to_the_pictures(self, monkeypatch, tmp_path):
        torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
        create = timm.create_model

        def from_file(name, **options):
            overlay = {"file": str(tmp_path / "vit.pth")}
            return create(name, **options, pretrained_cfg_overlay=overlay)

        monkeypatch.setattr(weights, "_check_hub", lambda name: None)
        monkeypatch.setattr(timm, "create_model", from_file)
        encoder = EncoderParameters(name="test_vit", weights="timm", small_dim=8, **POOLED)
        built = build_encoder(encoder, 64)
        assert built(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 4, 4)
