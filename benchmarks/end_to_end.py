"""The paper's bag-images baseline on patients that it never saw (section 2.1; docs/bag_images.md).

    python -m benchmarks.end_to_end --workspace=my_run --encoder=tf_efficientnet_lite0

takes the pictures of a workspace in which `ingest`, `embed` and `evaluate` ran, and the folds of
the first repeat. In each fold an encoder that starts from ImageNet's weights is trained together
with a small neural classifier (mean of the cells; width 64, one hidden layer of 32), on one inner
split; the epoch that is best on its validation patients predicts the held-out ones, in the original
view. `--fusion=mixture` is the mixture of experts of Sahasrabudhe et al. 2021; without `--fusion`
pictures alone are used.

It prints balanced accuracy and AUC with their 95 % interval over persons, and the paired difference
from age and count. `--keep=FOLDER` keeps each fold's predictions, and goes on from them.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.perturbed import newest
from lymphocytosis.compute import start_fabric
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.decision.evidence import join_predictions, measure
from lymphocytosis.end_to_end.bags import PictureBags, gather_pictures
from lymphocytosis.end_to_end.model import build_picture_classifier
from lymphocytosis.end_to_end.prediction import predict_pictures
from lymphocytosis.end_to_end.training import train_picture_classifier
from lymphocytosis.mil.scores import probabilities
from lymphocytosis.mil.splits import ROLES, draw_splits, numbers_of
from lymphocytosis.parameters import (
    BagImagesParameters,
    ComputeParameters,
    EncoderParameters,
    MilParameters,
    SchedulerParameters,
    SplitParameters,
)

COMPUTE = ComputeParameters(
    accelerator="auto",
    precision="32-true",
    embed_batch_size=32,
    embed_backend="torch",
    nodes=1,
    processes=1,
    rendezvous=None,
    rendezvous_timeout=900,
)
SPLITS = SplitParameters(source="stratified", count=1, validation_share=0.2)


def main() -> None:
    """Train in each fold, and print the table in Markdown."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0", help="as encoder.name")
    parser.add_argument("--fusion", choices=["concatenation", "late", "mixture"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    mil, training = recipe(asked.fusion, asked.epochs)
    encoder = EncoderParameters(
        name=asked.encoder, weights="package", small_dim=64, pool=("mean",), layers=(1,), zooms=(1,)
    )

    patients = pd.read_parquet(newest(asked.workspace, "02_intermediate/patients.parquet"))
    cells = pd.read_parquet(newest(asked.workspace, "02_intermediate/cells.parquet"))
    store = newest(asked.workspace, "02_intermediate/cell_images")
    bags = gather_pictures(ImageStoreDataset(filepath=str(store)).load(), cells, patients)
    folds = pd.read_parquet(newest(asked.workspace, "05_model_input/evaluation_folds.parquet"))
    folds = folds[folds["repeat"] == 1]
    tables = []
    for fold, rows in folds.groupby("fold"):
        name = f"{asked.encoder}-{asked.fusion}-{asked.epochs}-{fold}.parquet"
        kept = asked.keep and asked.keep / name
        if kept and kept.exists():
            tables.append(pd.read_parquet(kept))
            continue
        table = of_fold(bags, patients, set(rows["patient_id"]), encoder, mil, training)
        tables.append(table.assign(repeat=1, fold=fold))
        if kept:
            asked.keep.mkdir(parents=True, exist_ok=True)
            tables[-1].to_parquet(kept)
    controls = pd.read_parquet(
        newest(asked.workspace, "07_model_output/control_predictions.parquet")
    )
    system = f"pictures + clinical, {asked.fusion}" if asked.fusion else "pictures"
    joined = join_predictions(
        controls[controls["repeat"] == 1],
        pd.concat(tables, ignore_index=True).assign(size="end to end", system=system),
        patients,
        wanted_sensitivity=0.95,
    )
    table = measure(joined, resamples=2000, confidence=0.95, seed=0)
    print("| method | metric | value | from age and count |\n|---|---|---|---|")
    for row in table[table["rule"].isna() | (table["rule"] == "AVG")].itertuples():
        if row.method.startswith(("end", "clinical, logistic")) and row.metric in (
            "balanced_accuracy",
            "auc",
        ):
            apart = f"{row.difference:+.3f} [{row.difference_low:+.3f}, {row.difference_high:+.3f}]"
            print(
                f"| {row.method} | {row.metric} | {row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
                f" | {'' if np.isnan(row.difference) else apart} |"
            )


def recipe(fusion: str | None, epochs: int) -> tuple[MilParameters, BagImagesParameters]:
    """The blocks `mil` and `bag_images`; without a fusion, of pictures alone."""
    mil = MilParameters(
        classifier="neural",
        inputs="both" if fusion else "pictures",
        components=0,
        aggregator="mean",
        fusion=fusion or "concatenation",
        embedding_width=64,
        hidden_widths=(32,),
        dropout=0.3,
        log_count=True,
        epochs=1,  # bag_images.epochs counts
        batch_size=8,
        learning_rate=0.001,
        weight_decay=0.0,
        monitor="validation",
        monitor_threshold="fixed",
        scheduler=SchedulerParameters(factor=0.8, patience=5),
        logistic_c=1.0,
    )
    training = BagImagesParameters(
        chunk=64,
        batch_bags=8,
        epochs=epochs,
        learning_rate=0.001,
        encoder_learning_rate=0.0001,
        weight_decay=0.01,
    )
    return mil, training


def of_fold(
    bags: PictureBags,
    patients: pd.DataFrame,
    held_out: set[str],
    encoder: EncoderParameters,
    mil: MilParameters,
    training: BagImagesParameters,
) -> pd.DataFrame:
    """Train without the held-out patients, and predict them and the inner validation patients.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, subset, label, and others.
        held_out: the fold's patients; their labels are not used.
        encoder: the block `encoder`.
        mil: the block `mil`.
        training: the block `bag_images`.

    Returns:
        role (held_out or inner), patient_id, split, view, probability.
    """
    others = patients.assign(label=patients["label"].mask(patients["patient_id"].isin(held_out)))
    splits = draw_splits(others[others["label"].notna()], SPLITS, seed=0)
    train, validation = (numbers_of(patients, splits, 1, role) for role in ROLES)
    fabric = start_fabric(COMPUTE)
    size = bags.images.image.size
    model = build_picture_classifier(encoder, mil, size, training.chunk, seed=0)
    train_picture_classifier(model, bags, train, validation, ["original"], mil, training, 0, fabric)
    tested = np.flatnonzero(patients["patient_id"].isin(held_out))
    parts = []
    for role, numbers in (("held_out", tested), ("inner", validation)):
        predicted = predict_pictures(model, bags, numbers, ["original"], fabric)
        logits = torch.cat([logit.cpu() for logit, _ in predicted])
        ids = patients["patient_id"].iloc[numbers].to_numpy()
        parts.append(
            pd.DataFrame({"patient_id": ids, "probability": probabilities(logits)}).assign(
                role=role, split=1, view="original"
            )
        )
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    main()
