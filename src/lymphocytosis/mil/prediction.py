"""Predictions of trained classifiers, each patient in each view (paper, section 3.3)."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from lymphocytosis.errors import UserError, brief
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.splits import fingerprint
from lymphocytosis.mil.training import Classifier, Indices, build_classifier, predict_bags
from lymphocytosis.mil.whitening import whiten
from lymphocytosis.model_files import MISFITS, fill
from lymphocytosis.parameters import MilParameters


def load_classifiers(
    content: dict[str, Any], bags: Bags, splits: pd.DataFrame
) -> tuple[dict[int, Classifier], Bags]:
    """Rebuild a suite's classifiers, and bring bags to the form that they take.

    Args:
        content: what `train_suite` returned.
        bags: the bags they will be given.
        splits: the splits by which out-of-fold patients will be chosen.

    Returns:
        A classifier for each split; and the bags, whitened if the classifiers learned from whitened
        ones.

    Raises:
        UserError: these are no classifiers, or don't fit the parameters beside them; another
            encoder made the embeddings they were trained on; or they were trained on other splits,
            so that nobody knows whom they have seen.
    """
    if content.get("kind") != "classifiers":
        raise UserError("The catalog entry holds another kind of model, not classifiers.")
    try:
        parameters, whitening = content["parameters"], content["whitening"]
        if parameters["encoder"] != bags.encoder:
            raise UserError(
                "The classifiers were trained on embeddings of another encoder than those of the "
                "catalog entry 'embeddings'. Run classify again."
            )
        if parameters["splits"] != fingerprint(splits):
            raise UserError(
                "The classifiers were trained on other splits than those of the catalog entry "
                "'splits'. Run classify again."
            )
        if set(content["state_dicts"]) != set(splits["split"]):
            raise ValueError("there is not one for each split")
        if whitening:
            if not all(torch.isfinite(value).all() for value in whitening.values()):
                raise ValueError("the whitening has values that are not finite")
            bags = whiten(bags, whitening)
        mil = MilParameters.model_validate(parameters["mil"])
        classifiers = {}
        for split, state in content["state_dicts"].items():
            # No memory is taken for more than the file itself holds.
            with torch.device("meta"):
                classifiers[split] = build_classifier(mil, bags.instances.shape[1], seed=0)
            fill(classifiers[split], state, assign=True)
    except MISFITS as error:
        raise UserError(
            f"The classifiers can't be rebuilt: {brief(error)}. Run classify again."
        ) from error
    return classifiers, bags


def predict_patients(
    classifiers: dict[int, Classifier],
    bags: Bags,
    patients: pd.DataFrame,
    asked: dict[int, Indices],
    fabric: Fabric,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict patients in every view.

    Args:
        classifiers: one for each split.
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        asked: for each split, the numbers of the patients that its classifier predicts.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability (of a tumoral lymphocytosis), sorted; and patient_id,
        image_id, split, view, weight: each cell's share in its patient's prediction, adding up to 1
        for each patient, split and view.
    """
    bags = bags.on(fabric.device)
    predictions, weights = [], []
    for split, classifier in classifiers.items():
        chosen = bags.of_patients(asked[split])
        model = fabric.setup_module(classifier)
        probability, shares = predict_bags(model, bags, chosen, batch_size=32)
        keys = pd.DataFrame(
            {
                "patient_id": patients["patient_id"].to_numpy()[bags.patient[chosen]],
                "split": np.full(len(chosen), split),
                "view": [bags.view[bag] for bag in chosen],
            }
        )
        predictions.append(keys.assign(probability=probability))
        of_cells = keys.loc[keys.index.repeat(bags.size[chosen])]
        images = bags.image_id[bags.rows_of(chosen)]
        weights.append(of_cells.assign(image_id=images, weight=shares))
    return (
        in_order(predictions, ["patient_id", "split", "view", "probability"]),
        in_order(weights, ["patient_id", "image_id", "split", "view", "weight"]),
    )


def in_order(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Join the tables of all splits, sorted by patient, then by split.

    Args:
        tables: patient_id, split, and others.
        columns: of the table returned, in their order.

    Returns:
        All rows.
    """
    table = pd.concat(tables, ignore_index=True)[columns]
    table = table.astype(
        {name: "str" for name in columns if name.endswith("_id") or name == "view"}
    )
    return table.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
