"""Nodes of the ensemble pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

from typing import Any

from lymphocytosis.decision.rules import RULES
from lymphocytosis.parameters import ComputeParameters, EnsembleParameters
from lymphocytosis.pipelines.late import Bags, TrainedSystem, pa, pd
from lymphocytosis.pipelines.sizes import SIZES


def load_system(
    autoencoder: dict[str, Any],
    large_classifiers: dict[str, Any],
    small_classifiers: dict[str, Any],
    ensemble: EnsembleParameters,
) -> TrainedSystem:
    """Put the trained system together; see `system.trained.load_system`."""
    from lymphocytosis.system import trained

    classifiers = {"large": large_classifiers, "small": small_classifiers}
    return trained.load_system(autoencoder, classifiers, ensemble)


def gather_cells(
    system: TrainedSystem, embeddings: pa.Table, patients: pd.DataFrame, size: str
) -> Bags:
    """Sort the embeddings of one size into bags, once for all that is asked of them.

    Args:
        system: the trained system.
        embeddings: patient_id, image_id, view, embedding.
        patients: the patients.
        size: large or small.

    Returns:
        The bags.
    """
    from lymphocytosis.system.trained import gather_for

    return gather_for(system, size, embeddings, patients)


def predict_test_patients(
    system: TrainedSystem,
    bags: Bags,
    patients: pd.DataFrame,
    compute: ComputeParameters,
    size: str,
) -> pd.DataFrame:
    """Predict test patients by every classifier.

    Args:
        system: the trained system.
        bags: as `gather_cells` returns them.
        patients: the patients; labels are not used.
        compute: the block `compute` of the parameters.
        size: large or small.

    Returns:
        patient_id, split, view, probability; 15 rows a patient with five splits and three views.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.system.prediction import predict

    return predict(system.suites[size], bags, patients, start_fabric(compute))


def score_out_of_fold(
    system: TrainedSystem,
    bags: Bags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    compute: ComputeParameters,
    size: str,
) -> pd.DataFrame:
    """Predict labelled patients by the classifiers that did not train on them.

    Args:
        system: the trained system.
        bags: as `gather_cells` returns them.
        patients: the patients.
        splits: says on whom each classifier was trained.
        compute: the block `compute` of the parameters.
        size: large or small.

    Returns:
        patient_id, split, view, probability.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.system.prediction import predict_out_of_fold

    return predict_out_of_fold(system.suites[size], bags, patients, splits, start_fabric(compute))


def explain_cells(
    system: TrainedSystem,
    bags: Bags,
    patients: pd.DataFrame,
    predictions: pd.DataFrame,
    out_of_fold: pd.DataFrame,
    compute: ComputeParameters,
    size: str,
) -> pd.DataFrame:
    """Report each cell's contribution to all predictions.

    Args:
        system: the trained system.
        bags: as `gather_cells` returns them.
        patients: the patients.
        predictions: of the test patients.
        out_of_fold: of labelled patients.
        compute: the block `compute` of the parameters.
        size: large or small.

    Returns:
        patient_id, image_id, split, view, contribution.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.system.prediction import explain

    suite, fabric = system.suites[size], start_fabric(compute)
    tables = [explain(suite, bags, patients, said, fabric) for said in (predictions, out_of_fold)]
    return pd.concat(tables, ignore_index=True)


def answer_patients(
    ensemble: EnsembleParameters,
    patients: pd.DataFrame,
    cells: pd.DataFrame,
    **tables: pd.DataFrame,
) -> pd.DataFrame:
    """Answer by AVG of the size `ensemble.size`, beside what the other methods decide.

    Args:
        ensemble: the block `ensemble` of the parameters.
        patients: the patients; labels are not used.
        cells: a row for each file.
        tables: by their names in the catalog: each size's statistics, and decisions by each rule.

    Returns:
        ID, decision, probability, spread, cells, warnings.
    """
    from lymphocytosis.decision.answer import answer

    others = {
        f"{size} {rule.title.format(**ensemble.model_dump())}": tables[f"{size}_{name}"]
        for size in SIZES
        for name, rule in RULES.items()
        if (size, name) != (ensemble.size, "avg")
    }
    return answer(tables[f"{ensemble.size}_statistics"], others, patients, cells)
