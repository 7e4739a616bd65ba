"""The referral threshold: which patients to send to flow cytometry."""

import numpy as np
import numpy.typing as npt


def threshold_for_sensitivity(
    label: npt.NDArray[np.integer], probability: npt.NDArray[np.floating], wanted: float
) -> float:
    """Find the highest threshold that still refers the wanted share of tumoral patients.

    Args:
        label: (n,) 0 or 1, with at least one 1.
        probability: (n,) float, of a tumoral lymphocytosis.
        wanted: the sensitivity, above 0 and at most 1.

    Returns:
        A threshold t, the probability of a tumoral patient: `probability >= t` holds for at least
        the wanted share of tumoral patients.

    Raises:
        ValueError: there is no tumoral patient.
    """
    positives = np.sort(probability[label == 1])[::-1]
    if not len(positives):
        raise ValueError("a threshold for a sensitivity needs at least one tumoral patient")
    # Rounded first: 0.95 * 20 must give 19, not a little more.
    needed = int(np.ceil(round(wanted * len(positives), 9)))
    return float(positives[max(needed, 1) - 1])
