"""Nodes of the bag_images pipeline (paper, section 2.1).

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

from typing import Any

from lymphocytosis.parameters import (
    BagImagesParameters,
    ComputeParameters,
    EncoderParameters,
    MilParameters,
    View,
)
from lymphocytosis.pipelines.late import CellImages, np, pd, store
from lymphocytosis.progress import Progress


def train_picture_classifiers(
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    encoder: EncoderParameters,
    mil: MilParameters,
    bag_images: BagImagesParameters,
    views: list[View],
    compute: ComputeParameters,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train an encoder and a classifier as one for each split, a bag being a patient's pictures.

    Args:
        cell_images: uint8 (n, S, S, 3).
        cells: says which rows are whose.
        patients: labels and clinical values.
        splits: split, patient_id, role.
        encoder: the block `encoder` of the parameters.
        mil: the block `mil`: the classifier's shape, and what is monitored.
        bag_images: the block `bag_images`: the training.
        views: original, horizontal, vertical.
        compute: the block `compute`.
        seed: of weights, dropout, the order of bags, flips and turns.
        progress: where each finished model is saved until the run ends well.

    Returns:
        The packed state dicts; and the history of each model.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.encoders.weights import fingerprint
    from lymphocytosis.end_to_end.bags import gather_pictures
    from lymphocytosis.end_to_end.training import train_picture_suite
    from lymphocytosis.mil.splits import check_splits

    store.check_same_ingest(cells, cell_images)
    check_splits(splits, patients)
    bags = gather_pictures(cell_images, cells, patients)
    fabric = start_fabric(compute)
    progress.begin(
        {
            "the pictures": store.fingerprint(cell_images),
            "the table of patients": patients.to_csv(),
            "the splits": splits.to_csv(),
            "the parameters encoder": encoder,
            "the file of weights": fingerprint(encoder),
            "the parameters mil": mil,
            "the parameters bag_images": bag_images,
            "the parameter views": views,
            "the parameters compute": compute,
            "the parameter seed": seed,
        }
    )
    return train_picture_suite(
        bags, patients, splits, encoder, mil, bag_images, views, seed, fabric, progress
    )


def predict_from_pictures(
    picture_classifiers: dict[str, Any],
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    views: list[View],
    compute: ComputeParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predict test patients by every model, and labelled ones by those that may.

    Args:
        picture_classifiers: the packed state dicts.
        cell_images: uint8 (n, S, S, 3).
        cells: says which rows are whose.
        patients: the patients.
        splits: says on whom each model was trained.
        views: original, horizontal, vertical.
        compute: the block `compute` of the parameters.

    Returns:
        The test patients' predictions, 15 rows each with five splits and three views; the
        out-of-fold predictions: labelled patients, by models that did not train on them; and the
        contribution of each cell to all of these.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.end_to_end.bags import gather_pictures
    from lymphocytosis.end_to_end.prediction import predict_patients_by_pictures
    from lymphocytosis.mil.splits import check_splits, numbers_of

    store.check_same_ingest(cells, cell_images)
    check_splits(splits, patients)
    bags = gather_pictures(cell_images, cells, patients)
    test = (patients["subset"] == "test").to_numpy().nonzero()[0]
    asked = {
        split: np.concatenate([test, numbers_of(patients, splits, split, "validation")])
        for split in splits["split"].unique()
    }
    table, contributions = predict_patients_by_pictures(
        picture_classifiers, bags, patients, splits, asked, views, start_fabric(compute)
    )
    of_test = table["patient_id"].isin(patients["patient_id"].iloc[test])
    predictions, out_of_fold = (
        table[chosen].reset_index(drop=True) for chosen in (of_test, ~of_test)
    )
    return predictions, out_of_fold, contributions
