"""What more patients to learn from and more cells of a patient bring.

By a regression that takes milliseconds, on the mean of a patient's embedded cells: training the
block `mil` again for each point would take hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import RULES, measure
from lymphocytosis.display import followed

Floats = npt.NDArray[np.float64]

COLUMNS = ["varied", "number", "method", "metric", "value", "low", "high", "patients", "repeats"]
SHARES = (0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of a fold's training patients."""

# Enough for a band's edge.
_RESAMPLES = 200


def measure_learning_curves(
    cells: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    patients: pd.DataFrame,
    folds: pd.DataFrame,
    c: float,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Score held-out patients by fewer training patients, and by fewer of their own cells.

    Args:
        cells: (n, k) whitened embeddings of one view.
        owner: (n,) the row of each cell's patient in `patients`.
        patients: person, label, age_years, lymphocyte_count, and others.
        folds: repeat, fold, patient_id: the patients held out in each fold.
        c: of the regressions, scikit-learn's C.
        confidence: level of the intervals.
        seed: of the choice of patients and cells, and of the bootstrap.

    Returns:
        varied (patients or cells), number (training patients, on average; or cells of each held-out
        patient, who may have fewer), method (as in `evaluation`, without the size), metric
        (balanced_accuracy or auc), value, low, high, patients, repeats.
    """
    predicted = pd.concat(_predict(cells, owner, patients, folds, c, seed), ignore_index=True)
    predicted = predicted.merge(patients[["patient_id", "person", "label"]])
    # Those that need 15 predictions, or a threshold of their own.
    others = dict.fromkeys((set(RULES.values()) - {"decision"}), np.nan)
    predicted = predicted.assign(decision=(predicted["probability"] >= 0.5).astype(int), **others)
    # On average over folds, which differ by a patient.
    shares = predicted["varied"] == "patients"
    numbers = predicted[shares].groupby("step")["number"].mean().round().astype(int)
    predicted.loc[shares, "number"] = predicted.loc[shares, "step"].map(numbers)
    tables = []
    points = predicted.groupby(["varied", "number"])
    for _, rows in followed(points, "learning curves", points.ngroups, "points"):
        table = measure(rows, _RESAMPLES, confidence, seed)
        varied = {name: rows[name].iloc[0] for name in ("varied", "number")}
        tables.append(table.assign(**varied))
    scores = pd.concat(tables, ignore_index=True)
    wanted = scores["metric"].isin(["balanced_accuracy", "auc"])
    return scores.loc[wanted, COLUMNS].reset_index(drop=True)


def foretell(numbers: npt.NDArray[np.int64], scores: Floats, at: int) -> float:
    """Continue a learning curve by a power law: the score's distance from 1 is b n^-c.

    Args:
        numbers: (k,) of training patients.
        scores: (k,) at most 1.
        at: the number of training patients to foretell the score of.

    Returns:
        The score; b and c are least squares of the logarithms.

    Source: Cortes et al. 1994, Learning curves: asymptotic values and rate of convergence, with the
    asymptote 1.
    """
    # A score of 1 has no logarithm of its distance from 1.
    distance = np.log(np.maximum(1 - scores, 1e-3))
    slope, level = np.polyfit(np.log(numbers), distance, 1)
    return float(1 - np.exp(level + slope * np.log(at)))


def _predict(
    cells: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    patients: pd.DataFrame,
    folds: pd.DataFrame,
    c: float,
    seed: int,
) -> Iterator[pd.DataFrame]:
    """Each held-out patient's probability: by method, and by what is varied and its number."""
    clinical = np.column_stack([patients["age_years"], np.log(patients["lymphocyte_count"])])
    clinical = (clinical - clinical.mean(axis=0)) / np.maximum(clinical.std(axis=0), 1e-9)
    label = patients["label"].fillna(-1).to_numpy(dtype=np.int64)
    place = pd.Index(patients["patient_id"])
    taking_part = place.get_indexer(folds["patient_id"].unique())
    counts = np.bincount(owner, minlength=len(patients))
    most = counts[taking_part].max()
    steps = 2 ** np.arange(int(np.log2(most)) + 1)
    repeats = folds.groupby("repeat")
    for repeat, of_repeat in followed(repeats, "learning curves", repeats.ngroups, "repeats"):
        rng = np.random.default_rng([seed, int(of_repeat["repeat"].iloc[0])])
        few = _means_of_few(cells, owner, counts, steps, rng)
        means = few[-1]
        for fold, held_out in of_repeat.groupby("fold"):
            asked = place.get_indexer(held_out["patient_id"])
            inside = np.setdiff1d(taking_part, asked)
            shuffled = rng.permutation(inside)
            keys = {"repeat": repeat, "fold": fold, "patient_id": held_out["patient_id"].to_numpy()}
            for step, share in enumerate(SHARES):
                chosen = np.concatenate(
                    [_first(shuffled[label[shuffled] == value], share) for value in (0, 1)]
                )
                by_pictures = _fit(means[chosen], label[chosen], c)
                by_clinical = _fit(clinical[chosen], label[chosen], c)
                varied = {"varied": "patients", "number": len(chosen), "step": step}
                logits = by_pictures(means[asked]), by_clinical(clinical[asked])
                yield from _tables(*logits, keys | varied)
            for step, (number, of_few) in enumerate(zip([*steps, most], few, strict=True)):
                varied = {"varied": "cells", "number": number, "step": step}
                yield from _tables(by_pictures(of_few[asked]), logits[1], keys | varied)


def _means_of_few(
    cells: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    steps: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """(steps + 1, p, D): means over so many of each patient's cells, by chance; last over all."""
    means = np.zeros((len(steps) + 1, len(counts), cells.shape[1]))
    for patient in np.flatnonzero(counts):
        drawn = cells[rng.permutation(np.flatnonzero(owner == patient))].astype(np.float64)
        for step, number in enumerate([*steps, len(drawn)]):
            means[step, patient] = drawn[:number].mean(axis=0)
    return means


def _first(members: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    return members[: max(2, round(share * len(members)))]


def _fit(values: Floats, label: npt.NDArray[np.int64], c: float) -> Any:
    """A regression; returns its function from values to logits."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, class_weight="balanced").fit(values, label).decision_function


def _tables(pictures: Floats, clinical: Floats, keys: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """With both, the logit is the mean of theirs, as with `mil.fusion: late`."""
    logits = {
        CLINICAL: clinical, "pictures": pictures, "pictures + clinical": (pictures + clinical) / 2,
    }  # fmt: skip
    for method, logit in logits.items():
        yield pd.DataFrame({"method": method, "probability": 1 / (1 + np.exp(-logit)), **keys})
