"""Predictions of trained classifiers, each patient in each view (paper, section 3.3)."""

from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric

from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.classifier import PatientClassifier
from lymphocytosis.mil.splits import fingerprint
from lymphocytosis.mil.training import Indices, build_classifier, predict_bags
from lymphocytosis.parameters import MilParameters


def load_classifiers(
    content: dict[str, Any], bags: Bags, splits: pd.DataFrame
) -> dict[int, PatientClassifier]:
    """Rebuild a suite's classifiers.

    Args:
        content: what `train_suite` returned.
        bags: the bags they will be given.
        splits: the splits by which out-of-fold patients will be chosen.

    Returns:
        A classifier, in eval mode, for each split.

    Raises:
        UserError: these are no classifiers; another encoder made the embeddings they were trained
            on; or they were trained on other splits, so that nobody knows whom they have seen.
    """
    if content.get("kind") != "classifiers":
        raise UserError("The catalog entry holds another kind of model, not classifiers.")
    if content["parameters"]["encoder"] != bags.encoder:
        raise UserError(
            "The classifiers were trained on embeddings of another encoder than those of the "
            "catalog entry 'embeddings'. Run classify again."
        )
    if content["parameters"]["splits"] != fingerprint(splits):
        raise UserError(
            "The classifiers were trained on other splits than those of the catalog entry "
            "'splits'. Run classify again."
        )
    mil = MilParameters.model_validate(content["parameters"]["mil"])
    classifiers = {}
    for split, state in content["state_dicts"].items():
        classifiers[split] = build_classifier(mil, content["parameters"]["in_dim"], seed=0)
        classifiers[split].load_state_dict(state)
    return classifiers


def predict_patients(
    classifiers: dict[int, PatientClassifier],
    bags: Bags,
    patients: pd.DataFrame,
    asked: dict[int, Indices],
    fabric: Fabric,
) -> pd.DataFrame:
    """Predict patients in every view.

    Args:
        classifiers: one for each split.
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        asked: for each split, the numbers of the patients that its classifier predicts.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability (of a tumoral lymphocytosis), sorted.
    """
    tables = []
    for split, classifier in classifiers.items():
        chosen = bags.of_patients(asked[split])
        probability = predict_bags(fabric.setup_module(classifier), bags, chosen, fabric, 32)
        tables.append(
            pd.DataFrame(
                {
                    "patient_id": patients["patient_id"].to_numpy()[bags.patient[chosen]],
                    "split": np.full(len(chosen), split),
                    "view": [bags.view[bag] for bag in chosen],
                    "probability": probability,
                }
            )
        )
    table = pd.concat(tables, ignore_index=True).astype({"patient_id": "str", "view": "str"})
    return table.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
