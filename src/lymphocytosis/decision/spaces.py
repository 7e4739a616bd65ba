"""Where training patients' cells lie, and how far from there a patient's cells do.

Of a patient's cells, the mean says what kind of patient it is, and a single cell how odd that cell
is. Both are judged by covariances: within patients, and between their means. They are shrunk, since
there are few patients.

Source: Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance
matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf
from sklearn.utils.extmath import randomized_svd

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.floating[Any]]

# A value's spread counts as at least this share of the typical one, and the same for a direction's
# variance: what hardly ever changes must not outweigh all else.
_LEAST_SPREAD = 0.03


@dataclass(frozen=True)
class Place:
    """Where a patient lies among the training patients.

    Attributes:
        mean: distance of its cells' mean.
        rest: length of that mean outside the space's directions.
        cells: (n,) distance of each cell.
    """

    mean: float
    rest: float
    cells: Floats


@dataclass(frozen=True)
class Space:
    """Where training patients' cells lie: k directions in which those of a patient have variance 1.

    Attributes:
        mean: (D,) of the patients' means.
        scale: (D,) what values are divided by.
        components: (D, k) orthonormal; principal components of all cells.
        turn: (k, k) from these to directions that are uncorrelated both within patients, with
            variance 1, and between their means.
        between: (k,) variance of the patients' own means along these directions.
    """

    mean: Floats
    scale: Floats
    components: Floats
    turn: Floats
    between: Floats

    def place(self, vectors: Vectors) -> Place:
        """Measure where a patient lies.

        The mean of n cells has variance b_j + 1/n along direction j, so its distance is
        sqrt(1/k sum_j z_j^2 / (b_j + 1/n)); a cell's is the same with n = 1. Both are about 1 for a
        patient, or a cell, like the training patients'.

        Args:
            vectors: (n, D) float, of a patient's cells in any order.

        Returns:
            Its place.
        """
        centred = (vectors - self.mean) / self.scale
        # Sorted, so that the mean is the same to the bit in any order.
        mean = np.sort(centred, axis=0).mean(axis=0)
        inside = mean @ self.components
        rest = np.sqrt(max(mean @ mean - inside @ inside, 0.0))
        of_mean = (inside @ self.turn) ** 2 / (self.between + 1 / len(vectors))
        of_cells = (centred @ self.components @ self.turn) ** 2 / (self.between + 1)
        # Rounded, since the last bits of a matrix product depend on its other rows.
        cells = np.sqrt(of_cells.mean(axis=1)).round(9)
        return Place(float(np.sqrt(of_mean.mean())), float(rest), cells)


def fit_space(bags: Sequence[Floats], most: int) -> Space:
    """Learn where training patients' cells lie.

    Args:
        bags: of each patient (n_i, D), its cells' vectors; n_i is at least 1.
        most: how many directions to keep; at most D and the number of cells - 1 are kept.

    Returns:
        The space.
    """
    sizes = np.array([len(bag) for bag in bags])
    cells = np.concatenate(bags)
    # Each patient counts alike, however many cells it has.
    weights = np.repeat(1 / (len(bags) * sizes), sizes)[:, None]
    mean = (weights * cells).sum(axis=0)
    spread = np.sqrt((weights * (cells - mean) ** 2).sum(axis=0))
    typical = np.sqrt((spread**2).mean()) or 1.0
    scale = np.maximum(spread, _LEAST_SPREAD * typical)
    cells = (cells - mean) / scale
    kept = min(most, cells.shape[1], max(1, len(cells) - 1))
    # Ten times as fast as all of a large covariance's directions; the seed makes it repeatable.
    components = randomized_svd(np.sqrt(weights) * cells, kept, random_state=0)[2].T
    inside = cells @ components
    owner = np.repeat(np.arange(len(bags)), sizes)
    means = np.array([inside[owner == i].mean(axis=0) for i in range(len(bags))])
    # Within patients, scaled to variance 1; directions without variance get a little.
    within = _shrunk(inside - means[owner])
    within *= len(cells) / max(1, len(cells) - len(bags))
    of_cells, axes = np.linalg.eigh(within)
    white = axes / np.sqrt(np.maximum(of_cells, _LEAST_SPREAD**2 * of_cells.mean() or 1.0))
    of_means, turn = np.linalg.eigh(_shrunk(means @ white))
    between = np.maximum(of_means - (1 / sizes).mean(), 0)
    return Space(mean, scale, components, white @ turn, between)


def _shrunk(centred: Floats) -> Floats:
    """Covariance (k, k) of centred values (n, k)."""
    if len(centred) == 1:
        return centred.T @ centred
    covariance: Floats = ledoit_wolf(centred, assume_centered=True)[0]
    return covariance
