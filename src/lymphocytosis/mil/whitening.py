"""Whitening instances: principal components scaled to variance 1, without using labels.

The values of an embedding are strongly correlated, and a few large ones dominate. With a hundred
patients, a classifier learns more from about a hundred uncorrelated values.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor


def fit_whitening(instances: Tensor, components: int) -> dict[str, Tensor]:
    """Learn the components.

    Args:
        instances: (n, D) float32, of training patients.
        components: how many to keep; at most D and n - 1 are kept.

    Returns:
        mean (D,) and matrix (D, k), float32.
    """
    # In float64: the covariance is summed over thousands of instances.
    values = instances.numpy().astype(np.float64)
    kept = min(components, values.shape[1], len(values) - 1)
    pca = PCA(kept, svd_solver="covariance_eigh").fit(values)
    # Directions with almost no variance would be amplified noise; if there is no variance at all,
    # nothing is scaled.
    variance = pca.explained_variance_
    spread = np.sqrt(np.maximum(variance, 1e-6 * variance[0])) if variance[0] > 0 else variance + 1
    return {
        "mean": torch.from_numpy(pca.mean_.astype(np.float32)),
        "matrix": torch.from_numpy((pca.components_ / spread[:, None]).T.astype(np.float32)),
    }


def whiten(instances: Tensor, whitening: dict[str, Tensor]) -> Tensor:
    """Whiten instances.

    Args:
        instances: (n, D) float32.
        whitening: as `fit_whitening` returns it, on the same device.

    Returns:
        (n, k) float32.
    """
    return (instances - whitening["mean"]) @ whitening["matrix"]
