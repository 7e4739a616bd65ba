"""How much does an embedding say about whose cell it is? The shortcut of contrastive pretraining.

    python -m benchmarks.patient_probe --workspace=run_1 --workspace=run_2

takes the labelled patients of each workspace in which `embed` ran. Linear discriminant analysis
learns from one half of each patient's cells (original view, large embedding, principal components)
to name the patient, and is asked about the other half. Stain and background help it as much as the
cells do, so an encoder that has learnt to look at the slide names more patients.

It prints, for each workspace, the share of cells whose patient is named: mean and standard
deviation over ten draws of the halves; and what chance gives.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.retest import read
from lymphocytosis.mil.whitening import fit_whitening, whiten

DRAWS = 10


def main() -> None:
    """Print a row a workspace, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, action="append", required=True)
    parser.add_argument("--components", type=int, default=100, help="of the embedding")
    asked = parser.parse_args()
    print("| workspace | patient named | by chance |\n|---|---|---|")
    for workspace in asked.workspace:
        _, cells, owner = read(workspace)
        values = whiten(cells, fit_whitening(cells, asked.components)).numpy()
        shares = [named(values, owner, np.random.default_rng(draw)) for draw in range(DRAWS)]
        chance = 1 / len(np.unique(owner))
        spread = np.std(shares, ddof=1)
        print(f"| {workspace.name} | {np.mean(shares):.3f} ± {spread:.3f} | {chance:.3f} |")


def named(
    cells: npt.NDArray[np.float32], owner: npt.NDArray[np.int64], generator: np.random.Generator
) -> float:
    """Name the patients of half of the cells by the other half.

    Args:
        cells: (n, k) embeddings.
        owner: (n,) the number of each cell's patient; each has two cells or more.
        generator: draws the halves.

    Returns:
        The share of the asked cells whose patient is named, each patient counting alike.
    """
    shuffled = generator.permutation(len(cells))
    order = shuffled[np.argsort(owner[shuffled], kind="stable")]
    # Every other cell of each patient, in an order drawn at random.
    place = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    known, asked = order[place % 2 == 0], order[place % 2 == 1]
    patients = np.unique(owner)
    equal = np.full(len(patients), 1 / len(patients))
    probe = LinearDiscriminantAnalysis(priors=equal).fit(cells[known], owner[known])
    right = probe.predict(cells[asked]) == owner[asked]
    return float(np.mean([right[owner[asked] == patient].mean() for patient in patients]))


if __name__ == "__main__":
    main()
