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
        # Sorted values in the mean, and a product for each cell: the same bits in any order.
        centred = (vectors - self.mean) / self.scale
        mean = np.sort(centred, axis=0).mean(axis=0)
        inside = mean @ self.components
        z = np.array([of_one @ self.components @ self.turn for of_one in (mean, *centred)])
        variance = self.between + np.array([[1 / len(vectors)], *[[1.0]] * len(vectors)])
        distance = np.sqrt((z**2 / variance).mean(axis=1))
        rest = np.sqrt(max(mean @ mean - inside @ inside, 0.0))
        return Place(float(distance[0]), float(rest), distance[1:])


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
    variance, directions = np.linalg.eigh((weights * cells).T @ cells)
    kept = min(most, len(variance), max(1, len(cells) - 1))
    components = directions[:, : -kept - 1 : -1]
    inside = cells @ components
    owner = np.repeat(np.arange(len(bags)), sizes)
    means = np.array([inside[owner == i].mean(axis=0) for i in range(len(bags))])
    # Within patients, scaled to variance 1; directions without variance get a little.
    within = ledoit_wolf(inside - means[owner], assume_centered=True)[0]
    within *= len(cells) / max(1, len(cells) - len(bags))
    of_cells, axes = np.linalg.eigh(within)
    white = axes / np.sqrt(np.maximum(of_cells, _LEAST_SPREAD**2 * of_cells.mean() or 1.0))
    of_means, turn = np.linalg.eigh(ledoit_wolf(means @ white, assume_centered=True)[0])
    between = np.maximum(of_means - (1 / sizes).mean(), 0)
    return Space(mean, scale, components, white @ turn, between)
