"""The decision rules AVG and SA (paper, section 3.3)."""

from typing import Literal

import pandas as pd

Variant = Literal["corrected", "as_printed"]


def summarise(predictions: pd.DataFrame) -> pd.DataFrame:
    """Describe each patient's predictions: P_i = [mean, std, max, min] (paper, section 3.3.2).

    Args:
        predictions: patient_id, split, view, probability; 15 rows a patient with five splits and
            three views.

    Returns:
        patient_id, mean, std (of the population: divided by the number of predictions), max, min.
    """
    by_patient = predictions.groupby("patient_id")["probability"]
    return pd.DataFrame(
        {
            "mean": by_patient.mean(),
            "std": by_patient.std(ddof=0),
            "max": by_patient.max(),
            "min": by_patient.min(),
        }
    ).reset_index()


def decide_by_average(statistics: pd.DataFrame) -> pd.DataFrame:
    """Apply AVG (paper, equation 17): positive where the mean is 0.5 or more.

    Args:
        statistics: as `summarise` returns them.

    Returns:
        patient_id, decision (1 tumoral, 0 reactive).
    """
    return _decisions(statistics, statistics["mean"] >= 0.5)


def decide_by_sa(statistics: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """Apply SA (paper, algorithms 1 and 2).

    Args:
        statistics: as `summarise` returns them.
        variant: corrected: below 0.5, a patient is negative at once where mean + std < 0.5, as in
            the authors' code; as_printed: where mean - std < 0.5, which there is always true.

    Returns:
        patient_id, decision (1 tumoral, 0 reactive).
    """
    mean, std = statistics["mean"], statistics["std"]
    # Algorithm 1: does the most positive prediction outdo the most negative one?
    max_wins = statistics["max"] > 1 - statistics["min"]
    above = mean >= 0.5
    surely_positive = above & (mean - std > 0.5)
    edge = mean + std if variant == "corrected" else mean - std
    surely_negative = ~above & (edge < 0.5)
    return _decisions(statistics, surely_positive | (max_wins & ~surely_negative))


def _decisions(statistics: pd.DataFrame, positive: "pd.Series[bool]") -> pd.DataFrame:
    return pd.DataFrame(
        {"patient_id": statistics["patient_id"], "decision": positive.astype("int8")}
    )
