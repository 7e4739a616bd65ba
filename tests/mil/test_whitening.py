import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lymphocytosis.mil.whitening import fit_whitening, whiten


def some_instances(n=400, dim=7, seed=0):
    """Correlated values of unlike sizes, far from zero."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) * 2.0 ** np.arange(-3, dim - 3)
    return torch.from_numpy((mixed + rng.normal(size=dim) * 5).astype(np.float32))


def whitened(instances, whitening):
    return whiten(instances, whitening).numpy()


class TestWhitening:
    def test_it_is_scikit_learns_whitened_components(self):
        instances = some_instances()
        ours = whitened(instances, fit_whitening(instances, 4))
        # Another solver than the project's, so that only what is meant can agree.
        pca = PCA(4, whiten=True, svd_solver="full").fit(instances.numpy().astype(float))
        theirs = pca.transform(instances.numpy().astype(float))
        signs = np.sign((ours * theirs).sum(axis=0))
        np.testing.assert_allclose(ours, theirs * signs, rtol=1e-3, atol=1e-3)

    def test_components_are_uncorrelated_with_mean_0_and_variance_1(self):
        instances = some_instances()
        values = whitened(instances, fit_whitening(instances, 7))
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(np.cov(values.T), np.eye(7), atol=1e-3)

    def test_other_instances_get_the_same_scale_and_not_their_own(self):
        instances = some_instances()
        whitening = fit_whitening(instances, 7)
        moved = instances[:50] + 2
        shift = whitened(moved, whitening) - whitened(instances[:50], whitening)
        expected = (2 * torch.ones(7)) @ whitening["matrix"]
        np.testing.assert_allclose(shift, np.tile(expected, (50, 1)), rtol=1e-2, atol=1e-3)

    def test_the_first_components_are_those_of_a_longer_list(self):
        instances = some_instances()
        few, many = fit_whitening(instances, 3), fit_whitening(instances, 6)
        torch.testing.assert_close(few["matrix"], many["matrix"][:, :3])

    def test_same_instances_same_bits(self):
        first, again = (fit_whitening(some_instances(), 5) for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_it_is_float32_as_the_instances_are(self):
        whitening = fit_whitening(some_instances(), 5)
        assert {value.dtype for value in whitening.values()} == {torch.float32}
        assert whitening["mean"].shape == (7,)
        assert whitening["matrix"].shape == (7, 5)


class TestThinData:
    @pytest.mark.parametrize(
        ("n", "dim", "asked", "kept"), [(400, 7, 99, 7), (5, 7, 7, 4), (5, 7, 3, 3), (8, 7, 7, 7)]
    )
    def test_no_more_components_are_kept_than_there_are(self, n, dim, asked, kept):
        instances = some_instances(n, dim)
        whitening = fit_whitening(instances, asked)
        assert whitening["matrix"].shape == (dim, kept)
        assert np.isfinite(whitened(instances, whitening)).all()

    def test_directions_without_any_spread_stay_small(self):
        # Two directions, spread over seven values.
        rng = np.random.default_rng(0)
        instances = torch.from_numpy(
            (rng.normal(size=(300, 2)) @ rng.normal(size=(2, 7)) + 4).astype(np.float32)
        )
        values = whitened(instances, fit_whitening(instances, 7))
        np.testing.assert_allclose(np.cov(values[:, :2].T), np.eye(2), atol=1e-3)
        assert np.abs(values[:, 2:]).max() < 0.05  # the noise of float32 is not blown up

    def test_a_constant_value_changes_nothing(self):
        instances = some_instances()
        with_constant = torch.cat([instances, torch.full((400, 1), 37.3)], dim=1)
        ours, expected = (
            whitened(values, fit_whitening(values, 5)) for values in (with_constant, instances)
        )
        signs = np.sign((ours * expected).sum(axis=0))
        np.testing.assert_allclose(ours, expected * signs, rtol=1e-3, atol=1e-3)

    def test_spreads_below_a_thousandth_of_the_greatest_are_not_raised_to_1(self):
        rng = np.random.default_rng(0)
        spread = np.array([100.0, 1, 0.2, 0.01])
        instances = torch.from_numpy((rng.normal(size=(3000, 4)) * spread).astype(np.float32))
        values = whitened(instances, fit_whitening(instances, 4))
        np.testing.assert_allclose(values.std(axis=0), [1, 1, 1, 0.1], rtol=0.05)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_instances_that_are_all_the_same_stay_finite(self):
        instances = torch.ones(20, 4)
        assert np.isfinite(whitened(instances, fit_whitening(instances, 2))).all()
