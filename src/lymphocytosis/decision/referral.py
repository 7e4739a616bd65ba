"""Advice on one new patient: calibrated probability, referral, and when to look again.

Everything is fitted on out-of-fold predictions: of each patient by models that were not trained on
that patient.

Source: Platt 1999, Probabilistic outputs for support vector machines (the map and its targets);
Kull, Silva Filho and Flach 2017, Beta calibration, AISTATS (PMLR 54:623); Vovk, Gammerman and
Shafer 2005, Algorithmic Learning in a Random World, section 4.5 ("Mondrian" conformal sets, for
each class).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from lymphocytosis.decision.thresholds import threshold_for_sensitivity
from lymphocytosis.errors import UserError

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Calibration = Literal["none", "platt", "beta"]
Decision = Literal["refer", "do not refer"]
Share = Annotated[float, Field(ge=0, le=1)]

# How many coefficients each has: slopes, then the intercept.
CALIBRATIONS: dict[Calibration, int] = {"none": 0, "platt": 2, "beta": 3}
# A probability of 0 or 1 has no logarithm to calibrate.
_LEAST = 1e-6
_PARTS = 5
_RESAMPLES = 2000
_DIGITS = Decimal("0.0001")


@checked_dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Referral:
    """What turns a patient's probability into advice. It names no patient.

    `dataclasses.asdict` gives its JSON, and `Referral(**json)` checks and restores it.

    Attributes:
        calibration: of the probability.
        coefficients: of the calibration: slopes, none of them negative, then the intercept.
        threshold: refer where the calibrated probability is at least this.
        tumoral_from: the conformal set holds "refer" from this calibrated probability on.
        reactive_up_to: it holds "do not refer" up to this one.
        reactive: number of reactive patients that it was fitted on.
        tumoral: number of tumoral ones.
        source: the predictions that it was fitted on: of the nested evaluation, or of the
            classifiers' own validation patients.
    """

    calibration: Calibration
    coefficients: Annotated[
        tuple[Annotated[float, Field(strict=True)], ...], Field(strict=False)  # JSON has lists
    ]
    threshold: Share
    tumoral_from: Share
    reactive_up_to: Share
    reactive: Annotated[int, Field(ge=1)]
    tumoral: Annotated[int, Field(ge=1)]
    source: Literal["evaluation", "out of fold"]

    @model_validator(mode="after")
    def _rises(self) -> Referral:
        if len(self.coefficients) != CALIBRATIONS[self.calibration]:
            raise ValueError(
                f"calibration is {self.calibration!r}, which has {CALIBRATIONS[self.calibration]} "
                f"coefficients, not {len(self.coefficients)}"
            )
        if min(self.coefficients[:-1], default=0) < 0:
            raise ValueError("a slope of the calibration is negative")
        return self


@dataclass(frozen=True)
class Advice:
    """Advice on one patient.

    Attributes:
        probability: of a tumoral lymphocytosis, calibrated.
        referral: by the threshold alone.
        set: the conformal set: what can't be excluded at the error rate.
        advice: the referral where the set holds that and nothing else; else "look again".
    """

    probability: float
    referral: Decision
    set: Literal["refer", "do not refer", "both", "none"]
    advice: Literal["refer", "do not refer", "look again"]


def out_of_fold_probabilities(
    predictions: pd.DataFrame, patients: pd.DataFrame, **of: str
) -> pd.DataFrame:
    """Bring out-of-fold predictions into the form that `fit_referral` takes.

    Args:
        predictions: patient_id, split, view, probability, and others: those of the nested
            evaluation, with repeat, fold and role, of which the held-out ones are taken; or the
            out-of-fold predictions of a trained system, which count as one repeat.
        patients: patient_id, person, label, and others.
        **of: which rows to take, by column: size and system of the nested evaluation.

    Returns:
        patient_id, person, repeat, fold (0 for a trained system's), label, probability: the mean of
        the patient's predictions in the repeat.
    """
    if "role" in predictions:
        of = of | {"role": "held_out"}
    else:
        predictions = predictions.assign(repeat=1, fold=0)
    for column, value in of.items():
        predictions = predictions[predictions[column] == value]
    means = predictions.groupby(["patient_id", "repeat", "fold"], as_index=False)["probability"]
    table = means.mean().merge(patients[["patient_id", "person", "label"]])
    return table[["patient_id", "person", "repeat", "fold", "label", "probability"]].astype(
        {"label": "int8"}
    )


def fit_referral(
    out_of_fold: pd.DataFrame,
    wanted_sensitivity: float,
    error_rate: float,
    source: Literal["evaluation", "out of fold"],
) -> Referral:
    """Choose and fit the calibration, then the threshold and the conformal sets.

    A patient of r repeats weighs 1 / r in each, so that all count once. Probabilities are not
    averaged over repeats: a new patient has that of a single system, which varies more.

    Since every calibration rises with the probability, it keeps the order of patients. So the
    conformal guarantee holds although the calibration was fitted on the same patients: among new
    patients of a class, like those here, the share whose set lacks that class is at most
    `error_rate`. With fewer than 1 / `error_rate` - 1 patients of a class every set holds it. With
    one repeat this is exact; with more, the sets are those of the mean p value over repeats.

    Args:
        out_of_fold: patient_id, person, repeat, label, probability: each patient once in each
            repeat.
        wanted_sensitivity: of the threshold.
        error_rate: of the conformal sets, for each class.
        source: of the predictions.

    Returns:
        The referral. Its thresholds are rounded to four digits, away from what would refer or hold
        fewer patients, so none is a patient's own probability.

    Raises:
        UserError: there is no patient of one of the classes.
    """
    known = in_order(out_of_fold)
    label, probability, repeats = arrays(known)
    reactive, tumoral = (int((label == value).sum()) // repeats for value in (0, 1))
    if not reactive or not tumoral:
        raise UserError(
            "A referral needs out-of-fold predictions of patients of both classes, and these are "
            f"of {reactive} reactive and {tumoral} tumoral patients. Add patients, or raise "
            "splits.count so that more of them are validated."
        )
    calibration = choose_calibration(known)
    coefficients = fit_calibration(calibration, label, probability, repeats)
    calibrated = calibrate(calibration, coefficients, probability)
    least = _least_rank(tumoral, repeats, error_rate)
    tumoral_from = np.sort(calibrated[label == 1])[least - 1] if least else 0.0
    least = _least_rank(reactive, repeats, error_rate)
    reactive_up_to = np.sort(calibrated[label == 0])[-least] if least else 1.0
    threshold = threshold_for_sensitivity(label, calibrated, wanted_sensitivity)
    return Referral(
        calibration,
        coefficients,
        _rounded(threshold, ROUND_FLOOR),
        _rounded(tumoral_from, ROUND_FLOOR),
        _rounded(reactive_up_to, ROUND_CEILING),
        reactive,
        tumoral,
        source,
    )


def advise(referral: Referral, probability: float) -> Advice:
    """Advise on a patient.

    Args:
        referral: as `fit_referral` returns it.
        probability: the mean of the patient's predictions.

    Returns:
        The advice.
    """
    calibrated = float(
        calibrate(referral.calibration, referral.coefficients, np.array([probability]))[0]
    )
    decision: Decision = "refer" if calibrated >= referral.threshold else "do not refer"
    held: list[Decision] = []
    if calibrated >= referral.tumoral_from:
        held.append("refer")
    if calibrated <= referral.reactive_up_to:
        held.append("do not refer")
    return Advice(
        calibrated,
        decision,
        "both" if len(held) == 2 else held[0] if held else "none",
        decision if held == [decision] else "look again",
    )


def say_limits(reactive: int, tumoral: int, error_rate: float) -> list[str]:
    """Say for which class there are too few patients for the error rate.

    Args:
        reactive: number of reactive patients.
        tumoral: number of tumoral ones.
        error_rate: of the conformal sets.

    Returns:
        A sentence for each such class.
    """
    return [
        f"{count} {name} patients are too few to exclude a {name} lymphocytosis at an error rate "
        f"of {error_rate:.0%}, so no patient gets the advice {advice!r}."
        for name, count, advice in (
            ("reactive", reactive, "refer"),
            ("tumoral", tumoral, "do not refer"),
        )
        if not _least_rank(count, 1, error_rate)
    ]


def in_order(out_of_fold: pd.DataFrame) -> pd.DataFrame:
    """Sort out-of-fold predictions, so that the order of rows and repeats changes no bit.

    Args:
        out_of_fold: patient_id, probability, and others.

    Returns:
        The same rows.
    """
    return out_of_fold.sort_values(["patient_id", "probability"], ignore_index=True)


def arrays(known: pd.DataFrame) -> tuple[Labels, Floats, int]:
    """Take what a calibration is fitted on.

    Args:
        known: repeat, label, probability, and others: each patient once in each repeat.

    Returns:
        The labels, the probabilities, and the number of repeats.
    """
    label = known["label"].to_numpy(dtype=np.int64)
    repeats = max(1, known["repeat"].nunique())
    return label, known["probability"].to_numpy(dtype=float), repeats


def choose_calibration(known: pd.DataFrame) -> Calibration:
    """Choose the calibration by cross-fitting over persons.

    Each calibration is fitted on four fifths of the persons and predicts the others. None is kept
    unless another has a lower log loss in 95 % of bootstrap samples of the persons.

    Args:
        known: as `in_order` returns them.

    Returns:
        Of those that are better than none, the one with the lowest log loss.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    label, probability, repeats = arrays(known)
    parts = min(_PARTS, known.groupby("label")["person"].nunique().min())
    if parts < 2:
        return "none"
    cut = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
    folds = list(cut.split(label, label, known["person"]))
    losses = {}
    for calibration in CALIBRATIONS:
        unseen = np.empty(len(label))
        for seen, left_out in folds:
            coefficients = fit_calibration(calibration, label[seen], probability[seen], repeats)
            unseen[left_out] = calibrate(calibration, coefficients, probability[left_out])
        losses[calibration] = log_losses(label, unseen)
    chosen: Calibration = "none"
    for calibration, loss in losses.items():
        gain = pd.Series(losses["none"] - loss).groupby(known["person"].to_numpy()).mean()
        drawn = np.random.default_rng(0).integers(len(gain), size=(_RESAMPLES, len(gain)))
        sure = np.quantile(gain.to_numpy()[drawn].mean(axis=1), 0.05) > 0
        if sure and loss.mean() < losses[chosen].mean():
            chosen = calibration
    return chosen


def fit_calibration(
    calibration: Calibration, label: Labels, probability: Floats, repeats: int
) -> tuple[float, ...]:
    """Fit a calibration by maximum likelihood, its slopes at least 0.

    The targets are Platt's: (n1 + 1) / (n1 + 2) for the n1 tumoral patients and 1 / (n0 + 2) for
    the n0 reactive ones. With 1 and 0, slopes would grow without bound where the classes are
    separated, which happens with as few patients as here.

    Args:
        calibration: which.
        label: (n,) 0 or 1.
        probability: (n,).
        repeats: how often each patient is among them.

    Returns:
        Slopes, then the intercept: of Platt's map, 1 / (1 + exp(-a logit(p) - c)), a and c; of the
        beta map, 1 / (1 + exp(-a ln p + b ln(1 - p) - c)), a, b and c.
    """
    if calibration == "none":
        return ()
    inputs = np.column_stack([_inputs(calibration, probability), np.ones(len(label))])
    tumoral, reactive = label.sum() / repeats, (1 - label).sum() / repeats
    target = np.where(label == 1, (tumoral + 1) / (tumoral + 2), 1 / (reactive + 2))
    best, least = np.empty(0), np.inf
    # The best with some slopes at 0 and the others above it.
    for free in product([True, False], repeat=inputs.shape[1] - 1):
        columns = [*free, True]
        coefficients = np.zeros(len(columns))
        coefficients[columns], loss = most_likely(inputs[:, columns], target)
        if loss < least and (coefficients[:-1] >= 0).all():
            best, least = coefficients, loss
    return tuple(best.tolist())


def calibrate(
    calibration: Calibration, coefficients: tuple[float, ...], probability: Floats
) -> Floats:
    """Calibrate probabilities.

    Args:
        calibration: which.
        coefficients: as `fit_calibration` returns them.
        probability: (n,).

    Returns:
        (n,), rising with the probability, if not everywhere.
    """
    from scipy.special import expit

    if calibration == "none":
        return probability
    *slopes, intercept = coefficients
    # One product after another: a matrix product may give one patient other bits than many.
    columns = _inputs(calibration, probability).T
    return expit(sum(a * column for a, column in zip(slopes, columns, strict=True)) + intercept)


def log_losses(label: Labels, probability: Floats) -> Floats:
    """Compute the log loss of each patient.

    Args:
        label: (n,) 0 or 1.
        probability: (n,).

    Returns:
        (n,) in nats, at most 13.8.
    """
    true = np.where(label == 1, probability, 1 - probability)
    return -np.log(np.maximum(true, _LEAST))


def most_likely(inputs: Floats, target: Floats) -> tuple[Floats, float]:
    """Fit a logistic regression by Newton's method.

    Args:
        inputs: (n, k), a column of ones among them.
        target: (n,) shares, 0 to 1.

    Returns:
        (k,) coefficients, and the sum of losses in nats.
    """
    from scipy.special import expit

    def loss_at(coefficients: Floats) -> float:
        logit = inputs @ coefficients
        return float((np.logaddexp(0, logit) - target * logit).sum())

    coefficients = np.zeros(inputs.shape[1])
    loss = loss_at(coefficients)
    for _ in range(100):
        probability = expit(inputs @ coefficients)
        curvature = (inputs.T * (probability * (1 - probability))) @ inputs
        # Of the shortest length where all probabilities are the same.
        step = np.linalg.lstsq(curvature, inputs.T @ (target - probability))[0]
        while (new := loss_at(coefficients + step)) > loss and np.abs(step).max() > 1e-12:
            step /= 2
        if np.abs(step).max() <= 1e-10 or new > loss:
            break
        coefficients, loss = coefficients + step, new
    return coefficients, loss


def _inputs(calibration: Calibration, probability: Floats) -> Floats:
    """(n, slopes): what a calibration's slopes multiply."""
    clipped = np.clip(probability, _LEAST, 1 - _LEAST)
    up, down = np.log(clipped), -np.log1p(-clipped)
    return np.column_stack([up + down] if calibration == "platt" else [up, down])


def _least_rank(patients: int, repeats: int, error_rate: float) -> int:
    """The rank, among a class's probabilities, from which on its sets hold it; 0: they always do.

    The p value of rank j is (j / repeats + 1) / (patients + 1), and has to exceed the error rate.
    """
    # Rounded first: 0.29 * 100 must give 29, not a little less.
    excluded = round((patients + 1) * error_rate - 1, 9)
    return int(np.floor(round(repeats * excluded, 9))) + 1 if excluded >= 0 else 0


def _rounded(value: Any, direction: str) -> float:
    return float(Decimal(float(value)).quantize(_DIGITS, direction))
