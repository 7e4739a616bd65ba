"""The decision rules AVG and SA (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from lymphocytosis.parameters import EnsembleParameters

if TYPE_CHECKING:  # pipelines import the rules' names from here, without pandas
    import pandas as pd

Variant = Literal["corrected", "as_printed"]


def summarise(predictions: pd.DataFrame) -> pd.DataFrame:
    """Describe each patient's predictions: P_i = [mean, std, max, min] (paper, section 3.3.2).

    Args:
        predictions: patient_id, split, view, probability; 15 rows per patient with five splits and
            three views.

    Returns:
        patient_id, mean, std (population, not sample), max, min.
    """
    by_patient = predictions.groupby("patient_id")["probability"]
    statistics = (
        by_patient.mean()
        .to_frame("mean")
        .assign(std=by_patient.std(ddof=0), max=by_patient.max(), min=by_patient.min())
    )
    return statistics.reset_index()


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
        variant: for a mean below 0.5, a patient is negative at once if mean + std < 0.5 (corrected,
            as in the authors' code) or if mean - std < 0.5 (as_printed, which is always true).

    Returns:
        patient_id, decision (1 tumoral, 0 reactive).
    """
    mean, std = statistics["mean"], statistics["std"]
    # Algorithm 1: is the most positive prediction further from 0.5 than the most negative one?
    max_wins = statistics["max"] > 1 - statistics["min"]
    above = mean >= 0.5
    surely_positive = above & (mean - std > 0.5)
    edge = mean + std if variant == "corrected" else mean - std
    surely_negative = ~above & (edge < 0.5)
    return _decisions(statistics, surely_positive | (max_wins & ~surely_negative))


def _decisions(statistics: pd.DataFrame, positive: pd.Series[bool]) -> pd.DataFrame:
    return statistics[["patient_id"]].assign(decision=positive.astype("int8"))


class Rule(NamedTuple):
    """How a patient's predictions become one decision.

    Attributes:
        title: in the results table; may contain keys of the block `ensemble` in braces.
        decide: maps the result of `summarise` and the block `ensemble` of the parameters to
            patient_id, decision.
    """

    title: str
    decide: Callable[[pd.DataFrame, EnsembleParameters], pd.DataFrame]


# By the name in catalog entries and submissions. Everything else follows from this list.
RULES = {
    "avg": Rule("AVG", lambda statistics, _: decide_by_average(statistics)),
    "sa": Rule("SA ({sa_variant})", lambda table, block: decide_by_sa(table, block.sa_variant)),
}
