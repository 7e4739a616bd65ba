import numpy as np
import torch

from lymphocytosis.encoders.pooled import build_pooled_encoder, random_projection
from lymphocytosis.parameters import EncoderParameters


def parameters(name="test_efficientnet", weights="random", small_dim=8):
    return EncoderParameters(name=name, weights=weights, small_dim=small_dim)


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
