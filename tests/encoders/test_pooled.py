import numpy as np
import pytest
import torch

from lymphocytosis.encoders.pooled import build_pooled_encoder, enlarge, random_projection
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters
from tests.conftest import POOLED


def parameters(name="test_efficientnet", **given):
    return EncoderParameters(name=name, weights="random", small_dim=8, **(POOLED | given))


def embedded(images, **given):
    pooled = build_pooled_encoder(parameters(**given), images.shape[2], 0).eval()
    with torch.inference_mode():
        large, small = pooled.embed(images)
    assert large.shape == (len(images), pooled.dim)
    assert small.shape == (len(images), 8)
    return large


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class TestPooling:
    def test_pools_stand_side_by_side_as_they_are_named(self, images):
        kinds = ("token", "spread", "mean")
        alone = [embedded(images, name="test_vit", pool=(pool,)) for pool in kinds]
        assert not torch.allclose(alone[0], alone[2])
        assert torch.equal(embedded(images, name="test_vit", pool=kinds), torch.cat(alone, dim=1))

    def test_the_spread_is_the_standard_deviation_over_positions(self, images):
        spread = embedded(images, pool=("spread",))
        encoder = build_pooled_encoder(parameters(), 64, 0).eval().encoder
        with torch.inference_mode():
            expected = encoder(images).flatten(2).numpy().std(axis=2)
        np.testing.assert_allclose(spread, expected, atol=1e-3)

    def test_a_constant_map_has_a_finite_slope(self):
        pooled = build_pooled_encoder(parameters(pool=("spread",)), 64, 0)
        features = torch.ones(1, 4, 2, 2, requires_grad=True)
        pooled.encoder.layers = lambda *_: [(features, features[:, :0, 0, 0])]
        pooled._pool(torch.zeros(1, 3, 64, 64)).sum().backward()
        assert torch.isfinite(features.grad).all()

    def test_a_network_without_a_class_token_is_refused(self):
        with pytest.raises(UserError, match=r"encoder\.pool \[token\] .*no class token"):
            build_pooled_encoder(parameters(pool=("token",)), 64, 0)

    @pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_resnet"])
    def test_layers_are_counted_from_the_last(self, images, name):
        alone = [embedded(images, name=name, layers=(number,)) for number in (1, 2, 3)]
        some = embedded(images, name=name, layers=(3, 1, 2))
        assert torch.equal(some, torch.cat([alone[2], *alone[:2]], dim=1))
        # Another layer, not the same one again.
        assert not torch.equal(alone[0], alone[1])
        assert torch.equal(alone[0], embedded(images, name=name))

    def test_every_layer_has_a_token(self, images):
        both = embedded(images, name="test_vit", layers=(1, 2), pool=("token", "mean"))
        token = embedded(images, name="test_vit", layers=(1, 2), pool=("token",))
        assert torch.equal(both.unflatten(1, (4, -1))[:, ::2].flatten(1), token)

    def test_too_many_layers_are_refused(self):
        with pytest.raises(UserError, match=r"encoder\.layers \[1, 8\] can't be used"):
            build_pooled_encoder(parameters(layers=(1, 8)), 64, 0)


class TestZooms:
    def test_each_is_the_enlarged_middle(self, images):
        middle = torch.nn.functional.interpolate(
            images[:, :, 16:48, 16:48], size=64, mode="bilinear", align_corners=False
        )
        expected = torch.cat([embedded(images), embedded(middle)], dim=1)
        torch.testing.assert_close(embedded(images, zooms=(1.0, 0.5)), expected)

    @pytest.mark.parametrize("share", [0.25, 0.613, 0.9, 0.995])
    def test_the_middle_of_a_mirrored_picture_is_the_mirrored_middle(self, images, share):
        for axis in (2, 3):
            mirrored = enlarge(images.flip(axis), share).flip(axis)
            torch.testing.assert_close(mirrored, enlarge(images, share))

    def test_the_whole_picture_stays_as_it_is(self, images):
        assert enlarge(images, 1.0) is images


def test_with_random_weights_pictures_stay_as_they_are():
    pooled = build_pooled_encoder(parameters(), 64, 0).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(pooled.embed(images)[0], pooled.encoder(images).mean(dim=(2, 3)))


class TestRandomProjection:
    def test_to_fewer_dimensions_rows_are_orthonormal(self):
        projection = random_projection(50, 20, 0)
        torch.testing.assert_close(projection @ projection.T, torch.eye(20), rtol=0, atol=1e-5)

    def test_to_more_dimensions_every_distance_is_kept(self):
        vectors = torch.randn(10, 20, generator=torch.Generator().manual_seed(1))
        projected = vectors @ random_projection(20, 50, 0).T
        torch.testing.assert_close(torch.pdist(projected), torch.pdist(vectors))

    def test_distances_shrink_by_nearly_one_factor(self):
        vectors = torch.randn(30, 1280, generator=torch.Generator().manual_seed(1))
        projected = vectors @ random_projection(1280, 512, 0).T
        ratios = torch.pdist(projected) / torch.pdist(vectors)
        np.testing.assert_allclose(ratios, (512 / 1280) ** 0.5, rtol=0.15)
