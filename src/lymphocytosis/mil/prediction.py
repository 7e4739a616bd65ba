"""Predictions of trained classifiers, for each patient and view (paper, section 3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lymphocytosis.errors import UserError, brief
from lymphocytosis.mil.bags import Bags, Indices
from lymphocytosis.mil.classifiers import Classifier, build_classifier
from lymphocytosis.mil.scores import Floats, predict_bags
from lymphocytosis.mil.whitening import whiten
from lymphocytosis.model_files import MISFITS, fill
from lymphocytosis.parameters import MilParameters

_KEYS = ["patient_id", "split", "view"]


@dataclass(frozen=True)
class Suite:
    """The trained classifiers of one embedding size.

    Attributes:
        classifiers: one for each split, on the CPU.
        whitening: mean (D,) and matrix (D, k) of the instances; empty where they are not whitened.
        in_dim: width of the instances that a classifier takes.
        views: the views of the bags that they were trained on.
        encoder: the fingerprint of the encoder that embedded those bags.
        splits: the fingerprint of the splits that they were trained on.
    """

    classifiers: dict[int, Classifier]
    whitening: dict[str, Tensor]
    in_dim: int
    views: tuple[str, ...]
    encoder: str
    splits: str


def load_suite(content: dict[str, Any]) -> Suite:
    """Rebuild a suite's classifiers.

    Args:
        content: what `train_suite` returned.

    Returns:
        The suite.

    Raises:
        UserError: the content is not classifiers, or they don't fit its parameters.
    """
    if content.get("kind") != "classifiers":
        raise UserError("The catalog entry holds another kind of model, not classifiers.")
    try:
        parameters, whitening = content["parameters"], content["whitening"]
        mil = MilParameters.model_validate(parameters["mil"])
        in_dim = parameters["in_dim"]
        if whitening:
            if whitening["matrix"].shape != (len(whitening["mean"]), in_dim):
                raise ValueError("the whitening has another width")
            if not all(torch.isfinite(value).all() for value in whitening.values()):
                raise ValueError("the whitening has values that are not finite")
        classifiers = {}
        for split, state in content["state_dicts"].items():
            # Sizes come from the file: allocate no more memory than its weights take.
            with torch.device("meta"):
                classifiers[split] = build_classifier(mil, in_dim, seed=0)
            fill(classifiers[split], state, assign=True)
        if not classifiers:
            raise ValueError("there are none")
        return Suite(
            classifiers,
            whitening,
            in_dim,
            tuple(parameters["views"]),
            parameters["encoder"],
            parameters["splits"],
        )
    except MISFITS as error:
        raise UserError(
            f"The classifiers can't be rebuilt: {brief(error)}. Run classify again."
        ) from error


def prepare_bags(suite: Suite, bags: Bags) -> Bags:
    """Put bags into the form that a suite's classifiers take.

    Args:
        suite: the classifiers.
        bags: instances as embedded.

    Returns:
        The bags, whitened if the classifiers were trained on whitened ones.
    """
    return whiten(bags, suite.whitening) if suite.whitening else bags


def predict_patients(
    suite: Suite, bags: Bags, patients: pd.DataFrame, asked: dict[int, Indices], fabric: Fabric
) -> pd.DataFrame:
    """Predict patients in every view.

    Args:
        suite: a classifier for each split.
        bags: every bag, as `prepare_bags` returns them; patients are numbered as in `patients`.
        patients: patient_id, and others.
        asked: for each split, the numbers of the patients to predict.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability (of a tumoral lymphocytosis), sorted.
    """
    tables = [
        keys.assign(probability=probability)
        for _, keys, probability, _ in _outputs(suite, bags, patients, asked, fabric)
    ]
    return in_order(tables, [*_KEYS, "probability"])


def weigh_cells(
    suite: Suite, bags: Bags, patients: pd.DataFrame, asked: dict[int, Indices], fabric: Fabric
) -> pd.DataFrame:
    """Give each cell's weight in its patient's predictions.

    Args:
        suite: as in `predict_patients`.
        bags: likewise.
        patients: likewise.
        asked: likewise.
        fabric: likewise.

    Returns:
        patient_id, image_id, split, view, weight, sorted; the weights sum to 1 for each patient,
        split and view.
    """
    tables = []
    for chosen, keys, _, weights in _outputs(suite, bags, patients, asked, fabric):
        of_cells = keys.loc[keys.index.repeat(bags.size[chosen])]
        images = bags.image_id[bags.rows_of(chosen)]
        tables.append(of_cells.assign(image_id=images, weight=weights))
    return in_order(tables, ["patient_id", "image_id", "split", "view", "weight"])


def _outputs(
    suite: Suite, bags: Bags, patients: pd.DataFrame, asked: dict[int, Indices], fabric: Fabric
) -> Iterator[tuple[Indices, pd.DataFrame, Floats, Floats]]:
    """Yield each split's bags, their keys, their probabilities and their cells' weights."""
    bags = bags.on(fabric.device)
    for split, classifier in suite.classifiers.items():
        chosen = bags.of_patients(asked[split])
        classifier.to(fabric.device)
        keys = pd.DataFrame(
            {
                "patient_id": patients["patient_id"].to_numpy()[bags.patient[chosen]],
                "split": np.full(len(chosen), split),
                "view": [bags.view[bag] for bag in chosen],
            }
        )
        yield chosen, keys, *predict_bags(classifier, bags, chosen, 32, fabric)


def in_order(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Concatenate the tables of all splits, sorted by patient, then by split.

    Args:
        tables: patient_id, split, and others.
        columns: of the result, in order.

    Returns:
        All rows.
    """
    table = pd.concat(tables, ignore_index=True)[columns]
    table = table.astype(
        {name: "str" for name in columns if name.endswith("_id") or name == "view"}
    )
    return table.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
