"""Evidence for the advice: how it does on patients that it was not fitted on."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.evidence import draw_weights, ends
from lymphocytosis.decision.referral import (
    CALIBRATIONS,
    advise,
    arrays,
    calibrate,
    fit_calibration,
    fit_referral,
    in_order,
    log_losses,
)
from lymphocytosis.decision.results import exact_interval, interval

Floats = npt.NDArray[np.float64]
# By calibration and metric: value, low, high, patients.
Scores = dict[tuple[str | None, str], tuple[float, float, float, int]]

NAN = float("nan")
COLUMNS = [
    "method", "calibration", "metric", "value", "low", "high", "patients", "repeats",
]  # fmt: skip


def judge_referral(
    out_of_fold: pd.DataFrame, wanted_sensitivity: float, error_rate: float
) -> pd.DataFrame:
    """Advise on each patient by a referral that was fitted on the persons of the other folds.

    In each repeat and fold, calibration, threshold and sets are fitted on the persons of the other
    folds, on their probabilities in all repeats.

    Args:
        out_of_fold: patient_id, person, repeat, fold, label, probability; of each repeat all.
        wanted_sensitivity: of the threshold.
        error_rate: of the conformal sets.

    Returns:
        The same rows, sorted, with: platt and beta, the probability calibrated so; kept, the
        calibration that was chosen; referral, by the threshold; holds_reactive and holds_tumoral,
        what the set holds (each 0 or 1); advice.
    """
    tables, ordered = [], in_order(out_of_fold)
    for _, judged in ordered.groupby(["repeat", "fold"]):
        others = ordered[~ordered["person"].isin(judged["person"])]
        referral = fit_referral(others, wanted_sensitivity, error_rate, "evaluation")
        given = [advise(referral, probability) for probability in judged["probability"]]
        tables.append(
            judged.assign(
                **_calibrated(others, judged["probability"].to_numpy()),
                kept=referral.calibration,
                referral=[int(advice.referral == "refer") for advice in given],
                holds_reactive=[int(advice.set in ("do not refer", "both")) for advice in given],
                holds_tumoral=[int(advice.set in ("refer", "both")) for advice in given],
                advice=[advice.advice for advice in given],
            )
        )
    table = pd.concat(tables).sort_values(["repeat", "fold", "patient_id"], ignore_index=True)
    return table.astype(dict.fromkeys(["referral", "holds_reactive", "holds_tumoral"], "int8"))


def measure_referral(
    judged: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Score the advice.

    Args:
        judged: as `judge_referral` returns them, and method.
        resamples: of the bootstrap.
        confidence: level of the intervals.
        seed: of the bootstrap.

    Returns:
        method; calibration (null for what is no figure of a calibration); metric; value, over all
        repeats; low and high; patients, those counted, a mean over repeats; repeats. Metrics:
        coverage_reactive and coverage_tumoral, shares of a class whose set holds it; sensitivity
        and specificity of the referral; undecided, the share advised to look again;
        decided_sensitivity, decided_specificity and decided_balanced_accuracy of the others (null
        where there are none); of each calibration log_loss (in nats), brier, and kept, the share
        of folds that chose it. Intervals of shares are exact (Clopper-Pearson, of the mean counts,
        rounded), and of the balanced accuracy as in `interval`; those of log loss and Brier score
        are a bootstrap's over persons; kept has none.
    """
    rows = []
    for method, of_method in judged.groupby("method", sort=False):
        repeats = of_method["repeat"].nunique()
        scores = _shares(of_method, confidence)
        scores |= _errors(of_method, resamples, confidence, seed)
        for (calibration, metric), (*figures, patients) in scores.items():
            rows.append((method, calibration, metric, *figures, patients, repeats))
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {"calibration": "str", "value": "float64", "low": "float64", "high": "float64"}
    )


def calibrate_by_others(nested_predictions: pd.DataFrame) -> pd.DataFrame:
    """Calibrate every method's probabilities by Platt's map, for what compares them with costs.

    Args:
        nested_predictions: method, repeat, fold, person, label, probability, and others.

    Returns:
        The same rows. Each probability is calibrated by a map that was fitted on the persons of the
        other folds, on their probabilities in all repeats.
    """
    calibrated = nested_predictions["probability"].copy()
    for _, of_method in nested_predictions.groupby("method"):
        for _, judged in of_method.groupby(["repeat", "fold"]):
            others = of_method[~of_method["person"].isin(judged["person"])]
            given = _calibrated(others, judged["probability"].to_numpy())
            calibrated[judged.index] = given["platt"]
    return nested_predictions.assign(probability=calibrated)


def _calibrated(known: pd.DataFrame, asked: Floats) -> dict[str, Floats]:
    """What each calibration, fitted on some patients, makes of other patients' probabilities."""
    fitted_on = arrays(known)
    return {
        name: calibrate(name, fit_calibration(name, *fitted_on), asked)
        for name in CALIBRATIONS
        if name != "none"
    }


def _shares(judged: pd.DataFrame, confidence: float) -> Scores:
    tumoral, referred = judged["label"] == 1, judged["referral"] == 1
    undecided = judged["advice"] == "look again"
    right = {"sensitivity": referred & tumoral, "specificity": ~referred & ~tumoral}
    of_class = {"sensitivity": tumoral, "specificity": ~tumoral}
    counted = {
        "coverage_reactive": (judged["holds_reactive"] == 1, ~tumoral),
        "coverage_tumoral": (judged["holds_tumoral"] == 1, tumoral),
        **{name: (right[name], of_class[name]) for name in right},
        "undecided": (undecided, tumoral | ~tumoral),
        # A patient who is decided on is advised as the referral says.
        **{f"decided_{name}": (right[name], of_class[name] & ~undecided) for name in right},
    }
    shares: Scores = {}
    decided = []
    for metric, (found, of) in counted.items():
        share = found[of].mean()
        patients = round(of.sum() / judged["repeat"].nunique())
        successes = round(share * patients) if patients else 0
        exact = exact_interval(successes, patients, confidence)
        shares[None, metric] = (share, *exact, patients)
        if metric.startswith("decided_"):
            decided.append(np.arange(patients) < successes)
    both_ends = interval(*decided, confidence=confidence) if all(map(len, decided)) else (NAN, NAN)
    both = (shares[None, f"decided_{name}"][0] for name in right)
    shares[None, "decided_balanced_accuracy"] = (sum(both) / 2, *both_ends, sum(map(len, decided)))
    return shares


def _errors(judged: pd.DataFrame, resamples: int, confidence: float, seed: int) -> Scores:
    patients = judged.drop_duplicates("patient_id").set_index("patient_id").sort_index()
    label = judged["label"].to_numpy(dtype=np.int64)
    weights = draw_weights(
        patients["person"].to_numpy(dtype=object),
        patients["label"].to_numpy(dtype=np.int64),
        resamples,
        seed,
    )
    chosen = judged.drop_duplicates(["repeat", "fold"])["kept"]
    errors: Scores = {}
    for name in CALIBRATIONS:
        given = judged["probability" if name == "none" else name].to_numpy()
        found = {"log_loss": log_losses(label, given), "brier": (given - label) ** 2}
        for metric, of_rows in found.items():
            of_patients = pd.Series(of_rows).groupby(judged["patient_id"].to_numpy()).mean()
            scores = weights @ of_patients.to_numpy() / weights.sum(axis=1)
            errors[name, metric] = (scores[0], *ends(scores, confidence), len(patients))
        errors[name, "kept"] = ((chosen == name).mean(), NAN, NAN, len(patients))
    return errors
