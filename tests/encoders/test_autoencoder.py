import pytest
import torch
from torch import nn

from lymphocytosis.encoders.autoencoder import AutoEncoder, Decoder
from lymphocytosis.encoders.encoder import Encoder
from lymphocytosis.encoders.pictures import to_unit


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    return AutoEncoder(Encoder("test_efficientnet", 64), small_dim=8, image_size=64)


class TestDecoder:
    def test_sides_and_channels_are_the_references(self):
        shapes = []
        decoder = Decoder(1024, 224).eval()
        for block in decoder.blocks:
            block.register_forward_hook(lambda m, i, out: shapes.append(tuple(out.shape[1:])))
        drawn = decoder(torch.rand(1, 1024, 7, 7))
        assert shapes == [
            (512, 15, 15),
            (64, 31, 31),
            (32, 63, 63),
            (8, 127, 127),
            (3, 255, 255),
        ]
        assert drawn.shape == (1, 3, 224, 224)

    def test_every_block_normalises_with_momentum_001_also_before_the_sigmoid(self):
        decoder = Decoder(16, 64)
        norms = [m for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)]
        assert [norm.momentum for norm in norms] == [0.01] * 5
        assert [type(block[-1]) for block in decoder.blocks] == [nn.ReLU] * 4 + [nn.Sigmoid]

    @pytest.mark.parametrize(("side", "size"), [(2, 64), (4, 112), (7, 200)])
    def test_the_picture_has_its_own_size(self, side, size):
        assert Decoder(4, size)(torch.rand(2, 4, side, side)).shape == (2, 3, size, size)


class TestAutoEncoder:
    def test_reconstructions_are_pictures(self, autoencoder):
        images = torch.rand(3, 3, 64, 64)
        drawn = autoencoder(images)
        assert drawn.shape == images.shape
        assert 0 <= drawn.min() < drawn.max() <= 1

    def test_small_embedding_is_the_pooled_convolution(self, autoencoder):
        autoencoder.eval()
        images = torch.rand(3, 3, 64, 64)
        large, small = autoencoder.embed(images)
        feature_map = autoencoder.encoder(images)
        torch.testing.assert_close(
            large, nn.functional.adaptive_avg_pool2d(feature_map, 1)[..., 0, 0]
        )
        convolved_first = autoencoder.narrow(feature_map).mean(dim=(2, 3))
        torch.testing.assert_close(small, convolved_first)

    def test_embedding_does_not_need_the_decoder(self, autoencoder):
        images = torch.rand(2, 3, 64, 64)
        before = autoencoder.eval().embed(images)
        autoencoder.decoder = None
        for then, now in zip(before, autoencoder.embed(images), strict=True):
            assert torch.equal(then, now)


def test_to_unit_moves_channels_and_divides_by_255():
    pixels = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    images = to_unit(pixels)
    assert images.shape == (2, 3, 4, 5)
    assert images[1, 2, 3, 4] == pixels[1, 3, 4, 2].item() / torch.tensor(255.0)
