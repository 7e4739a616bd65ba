"""The decision rules AVG and SA (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lymphocytosis.parameters import EnsembleParameters

if TYPE_CHECKING:  # pipelines import the rules' names from here, without pandas
    import numpy as np
    import numpy.typing as npt
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
    import pandas as pd

    ordered = predictions.sort_values("patient_id", kind="stable", ignore_index=True)
    probability = ordered["probability"].to_numpy(dtype=float)
    first = ordered.index[~ordered["patient_id"].duplicated()]
    rows = [describe(probability[a:b]) for a, b in pairwise([*first, len(ordered)])]
    statistics = pd.DataFrame(rows, columns=["mean", "std", "max", "min"], dtype=float)
    statistics.insert(0, "patient_id", ordered["patient_id"].loc[first].array)
    return statistics


def describe(probability: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Describe one patient's predictions: P_i = [mean, std, max, min].

    Args:
        probability: (n,), n at least 1.

    Returns:
        The four by name; the same bits whoever else is described.
    """
    return {
        "mean": float(probability.mean()),
        "std": float(probability.std()),
        "max": float(probability.max()),
        "min": float(probability.min()),
    }


def decide_by_average(statistics: pd.DataFrame) -> pd.DataFrame:
    """Apply AVG (paper, equation 17): positive where the mean is 0.5 or more.

    Args:
        statistics: as `summarise` returns them.

    Returns:
        patient_id, decision (1 tumoral, 0 reactive).
    """
    return _decisions(statistics, statistics["mean"].to_numpy() >= 0.5)


def decide_by_sa(statistics: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """Apply SA (paper, algorithms 1 and 2).

    Args:
        statistics: as `summarise` returns them.
        variant: for a mean below 0.5, a patient is negative at once if mean + std < 0.5 (corrected,
            as in the authors' code) or if mean - std < 0.5 (as_printed, which is always true).

    Returns:
        patient_id, decision (1 tumoral, 0 reactive).
    """
    names = ("mean", "std", "max", "min")
    mean, std, most, least = (statistics[name].to_numpy() for name in names)
    # Algorithm 1: is the most positive prediction further from 0.5 than the most negative one?
    max_wins = most > 1 - least
    above = mean >= 0.5
    surely_positive = above & (mean - std > 0.5)
    edge = mean + std if variant == "corrected" else mean - std
    surely_negative = ~above & (edge < 0.5)
    return _decisions(statistics, surely_positive | (max_wins & ~surely_negative))


def _decisions(
    statistics: pd.DataFrame, positive: pd.Series[bool] | npt.NDArray[np.bool_]
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {"patient_id": statistics["patient_id"], "decision": positive.astype("int8")}
    )


class Rule(NamedTuple):
    """How a patient's predictions become one decision.

    Attributes:
        title: in the results table; may contain keys of the block `ensemble` in braces.
        decide: maps the result of `summarise` and the block `ensemble` of the parameters to
            patient_id, decision.
        diagram: how it decides, in Mermaid, for kedro-viz.
    """

    title: str
    decide: Callable[[pd.DataFrame, EnsembleParameters], pd.DataFrame]
    diagram: str = ""


_AVG = """flowchart TD
    half{"mean at least 0.5?"} -- yes --> tumoral(["tumoral"])
    half -- no --> reactive(["reactive"])
"""
# Both variants of its algorithm 2: a diagram knows no parameters.
_SA = """flowchart TD
    half{"mean at least 0.5?"} -- yes --> above{"mean - std above 0.5?"}
    half -- no --> below{"corrected: mean + std below 0.5?<br/>as_printed: mean - std below 0.5?"}
    above -- yes --> tumoral(["tumoral"])
    above -- no --> further{"max above 1 - min?"}
    below -- no --> further
    below -- yes --> reactive(["reactive"])
    further -- yes --> tumoral
    further -- no --> reactive
"""

# By the name in catalog entries and submissions. Everything else follows from this list.
RULES = {
    "avg": Rule("AVG", lambda statistics, _: decide_by_average(statistics), _AVG),
    "sa": Rule(
        "SA ({sa_variant})", lambda table, block: decide_by_sa(table, block.sa_variant), _SA
    ),
}


def explain(rule: str, statistics: Mapping[Any, Any], ensemble: EnsembleParameters) -> str:
    """Say why a rule decides as it does.

    Args:
        rule: a key of `RULES`.
        statistics: mean, std, max and min of one patient, as `summarise` returns them.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        Sentences; none for a rule without an explanation here.
    """
    if rule == "avg":
        return _explain_average(statistics)
    return _explain_sa(statistics, ensemble) if rule == "sa" else ""


def _explain_average(statistics: Mapping[Any, Any]) -> str:
    side = "0.5 or more" if statistics["mean"] >= 0.5 else "below 0.5"
    return f"The mean of the predictions, {statistics['mean']:.3f}, is {side}."


def _explain_sa(statistics: Mapping[Any, Any], ensemble: EnsembleParameters) -> str:
    mean, std, top, least = (statistics[name] for name in ("mean", "std", "max", "min"))
    above, corrected = mean >= 0.5, ensemble.sa_variant == "corrected"
    minus = above or not corrected
    edge = mean - std if minus else mean + std
    sure = edge > 0.5 if above else edge < 0.5
    said = (
        f"The mean is {mean:.3f}; {'less' if minus else 'plus'} the standard deviation, "
        f"{std:.3f}, it is {edge:.3f}, "
    )
    if sure:
        return f"{said}still {'above' if above else 'below'} 0.5, which settles it."
    further = "further" if top > 1 - least else "no further"
    return (
        f"{said}{'not above' if above else 'not below'} 0.5. So the most extreme predictions "
        f"decide: the greatest, {top:.3f}, is {further} above 0.5 than the least, {least:.3f}, is "
        "below it."
    )
