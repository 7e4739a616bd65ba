"""Nodes of the ensemble pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from typing import Any

from lymphocytosis.parameters import ComputeParameters, EnsembleParameters
from lymphocytosis.pipelines.late import pa, pd

logger = logging.getLogger(__name__)


def predict(
    classifiers: dict[str, Any],
    embeddings: pa.Table,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    compute: ComputeParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predict test patients by every classifier, and labelled ones by those that may.

    Args:
        classifiers: the packed state dicts of one size.
        embeddings: patient_id, image_id, view, embedding, of the same size.
        patients: the patients.
        splits: tells on whom each classifier was trained.
        compute: the block `compute` of the parameters.

    Returns:
        The test patients' predictions, 15 rows each with five splits and three views; the
        out-of-fold predictions: labelled patients, by classifiers that did not train on them; and
        the weight of each cell in all of these.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.mil.bags import gather_bags
    from lymphocytosis.mil.prediction import load_classifiers, predict_patients
    from lymphocytosis.mil.splits import check_splits, numbers_of

    check_splits(splits, patients)
    bags = gather_bags(embeddings, patients)
    suite, bags = load_classifiers(classifiers, bags, splits)
    fabric = start_fabric(compute)
    test = (patients["subset"] == "test").to_numpy().nonzero()[0]
    validation = {split: numbers_of(patients, splits, split, "validation") for split in suite}
    predictions, weights = predict_patients(
        suite, bags, patients, dict.fromkeys(suite, test), fabric
    )
    out_of_fold, weights_out_of_fold = predict_patients(suite, bags, patients, validation, fabric)
    return predictions, out_of_fold, pd.concat([weights, weights_out_of_fold], ignore_index=True)


def compute_statistics(predictions: pd.DataFrame) -> pd.DataFrame:
    """Describe each patient's predictions; see `summarise`."""
    from lymphocytosis.decision.rules import summarise

    return summarise(predictions)


def average_predictions(statistics: pd.DataFrame) -> pd.DataFrame:
    """Decide by AVG; see `decide_by_average`."""
    from lymphocytosis.decision.rules import decide_by_average

    return decide_by_average(statistics)


def apply_sa_rule(statistics: pd.DataFrame, ensemble: EnsembleParameters) -> pd.DataFrame:
    """Decide by SA, in the variant that the parameters name; see `decide_by_sa`."""
    from lymphocytosis.decision.rules import decide_by_sa

    return decide_by_sa(statistics, ensemble.sa_variant)


def make_submission(decisions: pd.DataFrame) -> pd.DataFrame:
    """Give decisions the challenge's form.

    Args:
        decisions: patient_id, decision.

    Returns:
        ID, Predicted.
    """
    return decisions.rename(columns={"patient_id": "ID", "decision": "Predicted"})


def tabulate_results(
    patients: pd.DataFrame,
    small_avg: pd.DataFrame,
    large_avg: pd.DataFrame,
    small_sa: pd.DataFrame,
    large_sa: pd.DataFrame,
    small_out_of_fold: pd.DataFrame,
    large_out_of_fold: pd.DataFrame,
    ensemble: EnsembleParameters,
) -> pd.DataFrame:
    """Make the paper's Table 1, and show it.

    Args:
        patients: tells which labels are known.
        small_avg: the test patients' decisions by each method.
        large_avg: likewise.
        small_sa: likewise.
        large_sa: likewise.
        small_out_of_fold: predictions of labelled patients by classifiers not trained on them.
        large_out_of_fold: likewise.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        A row a method, in the paper's order.
    """
    from lymphocytosis.decision.results import describe, tabulate
    from lymphocytosis.decision.rules import decide_by_average, decide_by_sa, summarise

    small, large = summarise(small_out_of_fold), summarise(large_out_of_fold)
    sa = f"SA ({ensemble.sa_variant})"
    results = tabulate(
        patients,
        test={
            "small AVG": small_avg,
            "large AVG": large_avg,
            f"small {sa}": small_sa,
            f"large {sa}": large_sa,
        },
        out_of_fold={
            "small AVG": decide_by_average(small),
            "large AVG": decide_by_average(large),
            f"small {sa}": decide_by_sa(small, ensemble.sa_variant),
            f"large {sa}": decide_by_sa(large, ensemble.sa_variant),
        },
    )
    logger.info("results\n%s", describe(results))
    return results
