"""Predictions of a trained system."""

import pandas as pd
from lightning_fabric import Fabric

from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.prediction import Suite, explain_patients, predict_patients
from lymphocytosis.mil.splits import check_splits, fingerprint, numbers_of


def predict(suite: Suite, bags: Bags, patients: pd.DataFrame, fabric: Fabric) -> pd.DataFrame:
    """Predict the test patients by every classifier, without using labels.

    Args:
        suite: the system's classifiers of one embedding size.
        bags: as `gather_for` returns them.
        patients: patient_id, subset, and others.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability; 15 rows per patient with five splits and three views.
    """
    test = (patients["subset"] == "test").to_numpy().nonzero()[0]
    return predict_patients(suite, bags, patients, dict.fromkeys(suite.classifiers, test), fabric)


def predict_out_of_fold(
    suite: Suite, bags: Bags, patients: pd.DataFrame, splits: pd.DataFrame, fabric: Fabric
) -> pd.DataFrame:
    """Predict labelled patients, each by the classifiers that were not trained on it.

    Args:
        suite: the system's classifiers of one size.
        bags: as `gather_for` returns them.
        patients: patient_id, subset, label, and others.
        splits: the patients each classifier was trained on.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability.

    Raises:
        UserError: the classifiers were trained on other splits, so their training patients are
            unknown.
    """
    check_splits(splits, patients)
    if suite.splits != fingerprint(splits) or set(suite.classifiers) != set(splits["split"]):
        raise UserError(
            "The classifiers were trained on other splits than those of the catalog entry "
            "'splits'. Run classify again."
        )
    held_out = {
        split: numbers_of(patients, splits, split, "validation") for split in suite.classifiers
    }
    return predict_patients(suite, bags, patients, held_out, fabric)


def explain(
    suite: Suite,
    bags: Bags,
    patients: pd.DataFrame,
    predictions: pd.DataFrame,
    fabric: Fabric,
) -> pd.DataFrame:
    """Give each cell's contribution to predictions.

    Args:
        suite: the system's classifiers of one size.
        bags: as `gather_for` returns them.
        patients: patient_id, and others.
        predictions: as `predict` or `predict_out_of_fold` returns them.
        fabric: device and precision.

    Returns:
        patient_id, image_id, split, view, contribution.
    """
    index = pd.Index(patients["patient_id"])
    asked = {
        split: index.get_indexer(predictions.loc[predictions["split"] == split, "patient_id"])
        for split in suite.classifiers
    }
    return explain_patients(suite, bags, patients, asked, fabric)
