"""Test and retest: does one half of a patient's cells say the same as the other?

    python -m benchmarks.retest --workspace=my_run

takes the labelled patients of a workspace in which `evaluate` ran, and its folds. In each fold a
logistic regression learns from the mean of each training patient's whitened cells (original view,
large embedding); with age and count, the logits of two regressions are averaged, as in
`learning_curves`. A held-out patient's cells are split at random into two halves; each is asked.

It prints, for pictures alone and with age and count: the share of patients decided alike at a
probability of 0.5, Cohen's kappa, the correlation of the two logits, and the balanced accuracy of
one half and of all cells. Figures are means over repeats; in brackets the 95 % interval over
persons.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.perturbed import newest
from lymphocytosis.decision.evidence import draw_weights, ends
from lymphocytosis.mil.whitening import fit_whitening, whiten

Floats = npt.NDArray[np.float64]
RESAMPLES, CONFIDENCE = 2000, 0.95
C = 3.0  # of the regressions, as the best recipe has it


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--components", type=int, default=200, help="as mil.components")
    asked = parser.parse_args()

    patients, cells, owner = read(asked.workspace)
    folds = pd.read_parquet(newest(asked.workspace, "05_model_input/evaluation_folds.parquet"))
    whitened = whiten(cells, fit_whitening(cells, asked.components)).numpy()
    logits = asked_twice(whitened, owner, patients, folds, seed=0)
    print("| of | decided alike | kappa | correlation | balanced accuracy: half | all cells |")
    print("|---|---|---|---|---|---|")
    weights = draw_weights(
        patients["person"].to_numpy(object), patients["label"].to_numpy(int), RESAMPLES, 0
    )
    for name, of_name in logits.items():
        figures = compare(of_name, patients["label"].to_numpy(int), weights)
        shown = (f"{f[0]:.3f} ({low:.3f} to {high:.3f})" for f, (low, high) in figures)
        print(f"| {name} | {' | '.join(shown)} |")


def read(workspace: Path) -> tuple[pd.DataFrame, torch.Tensor, npt.NDArray[np.int64]]:
    """The labelled patients; their cells' embeddings (n, D); the row of each cell's patient."""
    patients = pd.read_parquet(newest(workspace, "02_intermediate/patients.parquet"))
    patients = patients[patients["label"].notna()].reset_index(drop=True)
    table = pq.read_table(
        newest(workspace, "04_features/embeddings.parquet"),
        columns=["patient_id", "large"],
        filters=[("view", "==", "original")],
    )
    large = table["large"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    owner = pd.Index(patients["patient_id"]).get_indexer(table["patient_id"].to_pandas())
    return patients, torch.from_numpy(large[owner >= 0]), owner[owner >= 0]


def asked_twice(
    cells: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    patients: pd.DataFrame,
    folds: pd.DataFrame,
    seed: int,
) -> dict[str, Floats]:
    """Ask each held-out patient's halves, and all cells.

    Args:
        cells: (n, k) whitened embeddings.
        owner: (n,) the row of each cell's patient in `patients`; each has two cells or more.
        patients: patient_id, label, age_years, lymphocyte_count, and others.
        folds: repeat, fold, patient_id: the patients held out in each fold.
        seed: of the halves.

    Returns:
        (repeats, 3, p) logits of one half, of the other, of all cells; by what is asked.
    """
    clinical = np.column_stack([patients["age_years"], np.log(patients["lymphocyte_count"])])
    clinical = (clinical - clinical.mean(axis=0)) / clinical.std(axis=0)
    label = patients["label"].to_numpy(int)
    pictures, both = (np.zeros((folds["repeat"].nunique(), 3, len(label))) for _ in range(2))
    for number, (_, of_repeat) in enumerate(folds.groupby("repeat")):
        means = np.stack(list(_means(cells, owner, np.random.default_rng([seed, number]))), axis=1)
        for _, held_out in of_repeat.groupby("fold"):
            out = patients["patient_id"].isin(held_out["patient_id"]).to_numpy()
            by_pictures, by_clinical = (
                LogisticRegression(C=C, class_weight="balanced").fit(values[~out], label[~out])
                for values in (means[2], clinical)
            )
            for half, mean in enumerate(means):
                pictures[number, half, out] = by_pictures.decision_function(mean[out])
            both[number][:, out] = (
                pictures[number][:, out] + by_clinical.decision_function(clinical[out])
            ) / 2
    return {"pictures": pictures, "pictures + clinical": both}


def _means(
    cells: npt.NDArray[np.float32], owner: npt.NDArray[np.int64], rng: np.random.Generator
) -> Iterator[Floats]:
    """Of each patient (3, k): the means of two halves and of all cells."""
    for patient in range(owner.max() + 1):
        own = cells[rng.permutation(np.flatnonzero(owner == patient))].astype(np.float64)
        middle = len(own) // 2
        yield np.stack([own[:middle].mean(axis=0), own[middle:].mean(axis=0), own.mean(axis=0)])


def compare(
    logits: Floats, label: npt.NDArray[np.int64], weights: Floats
) -> list[tuple[Floats, tuple[float, float]]]:
    """Compare the halves.

    Args:
        logits: (repeats, 3, p).
        label: (p,) 0 or 1.
        weights: (1 + resamples, p), as `draw_weights` returns them.

    Returns:
        Of each figure its values under the weights and its interval: share decided alike, kappa,
        correlation, balanced accuracy of one half, of all cells.
    """
    one, other, whole = (logits[:, half] for half in range(3))  # (repeats, p)

    def mean(values: npt.NDArray[Any], of: npt.NDArray[Any] | None = None) -> Floats:
        """Weighted means over patients, or over some of them: (1 + resamples, repeats)."""
        chosen = weights if of is None else weights * of
        return chosen @ values.T.astype(float) / chosen.sum(axis=1, keepdims=True)

    def right(logit: Floats) -> Floats:
        return (mean(logit < 0, label == 0) + mean(logit >= 0, label == 1)) / 2

    alike, shares = mean((one >= 0) == (other >= 0)), [mean(half >= 0) for half in (one, other)]
    by_chance = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    covariance = mean(one * other) - mean(one) * mean(other)
    variances = [mean(values**2) - mean(values) ** 2 for values in (one, other)]
    figures = [
        alike,
        (alike - by_chance) / (1 - by_chance),
        covariance / np.sqrt(variances[0] * variances[1]),
        right(one),
        right(whole),
    ]
    over_repeats = [figure.mean(axis=1) for figure in figures]
    return [(values, ends(values, CONFIDENCE)) for values in over_repeats]


if __name__ == "__main__":
    main()
