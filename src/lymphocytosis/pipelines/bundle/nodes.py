"""Nodes of the bundle pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

from typing import Any

from lymphocytosis.parameters import (
    ComputeParameters,
    EnsembleParameters,
    MilParameters,
)
from lymphocytosis.pipelines.classify.nodes import train_classifiers
from lymphocytosis.pipelines.late import CellImages, TrainedSystem, np, pa, pd, store
from lymphocytosis.progress import Progress


def train_pictures_only(
    embeddings: pa.Table,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    mil: MilParameters,
    compute: ComputeParameters,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Train the classifiers for patients whose age or count is missing.

    Args:
        embeddings: patient_id, image_id, view, embedding: one of the two sizes.
        patients: labels and clinical values; the latter are not used.
        splits: split, patient_id, role.
        mil: the block `mil` of the parameters.
        compute: the block `compute`.
        seed: of weights, dropout and the order of bags.
        progress: where each finished classifier is saved until the run ends well.

    Returns:
        The packed classifiers; empty where `mil.inputs` is `pictures`, as others take no more.
    """
    if mil.inputs == "pictures":
        return {}
    alone = mil.model_copy(update={"inputs": "pictures"})
    return train_classifiers(embeddings, patients, splits, alone, compute, seed, progress)[0]


def load_system(
    autoencoder: dict[str, Any], ensemble: EnsembleParameters, **classifiers: dict[str, Any]
) -> TrainedSystem:
    """Check that encoder and classifiers belong together; see `system.trained.load_system`.

    Args:
        autoencoder: the packed encoder.
        ensemble: the block `ensemble` of the parameters.
        classifiers: packed, by model; those that were not trained are empty.

    Returns:
        The system.
    """
    from lymphocytosis.system import trained

    made = {model: content for model, content in classifiers.items() if content}
    return trained.load_system(autoencoder, made, ensemble)


def find_evidence(
    system: TrainedSystem,
    large_classifiers: dict[str, Any],
    ensemble: EnsembleParameters,
    **evaluated: Any,
) -> dict[str, Any]:
    """Take the newest evaluation if it is of this system's recipe.

    Args:
        system: the trained system.
        large_classifiers: packed.
        ensemble: the block `ensemble` of the parameters.
        evaluated: entries of `evaluate` by name, each None where there is none; the attributes of
            classifier_predictions tell the recipe.

    Returns:
        methods: what the evaluation calls each model of the size that decides; lack: why there is
        no evaluation, or an empty text; and, where there is one, the entries by name.
    """
    mil, size = large_classifiers["parameters"]["mil"], ensemble.size
    alone = f"{size}, pictures"
    methods: dict[str, str] = {size: alone}
    if mil["inputs"] == "both":
        methods = {size: f"{alone} + clinical", f"{size}_pictures_only": alone}
    if any(entry is None for entry in evaluated.values()):
        return {"methods": methods, "lack": "there was no evaluation."}
    recipe = evaluated["classifier_predictions"].attrs
    # An evaluation trains on pictures alone, and on both.
    odd = [key for key in mil if mil[key] != recipe.get("mil", {}).get(key) and key != "inputs"]
    if not recipe:
        lack = "the newest evaluation doesn't tell its recipe; an earlier version made it."
    elif recipe.get("encoder") != system.encoder:
        lack = "the newest evaluation was of another encoder, or pretrained one in each fold."
    elif recipe["views"] != list(system.views):
        lack = "the newest evaluation was of other views."
    elif odd:
        lack = f"the newest evaluation was of another recipe ({', '.join(odd)} differ)."
    else:
        return {"methods": methods, "lack": "", **evaluated}
    return {"methods": methods, "lack": lack}


def fit_referrals(
    system: TrainedSystem,
    evidence: dict[str, Any],
    large_embeddings: pa.Table,
    small_embeddings: pa.Table,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    ensemble: EnsembleParameters,
    compute: ComputeParameters,
) -> dict[str, Any]:
    """Fit what turns a probability into advice, for the models of the size that decides.

    Args:
        system: the trained system.
        evidence: as `find_evidence` returns it.
        large_embeddings: patient_id, image_id, view, embedding.
        small_embeddings: the same.
        patients: labels and persons.
        splits: says on whom each classifier was trained.
        ensemble: the block `ensemble` of the parameters.
        compute: the block `compute`.

    Returns:
        A Referral for each model.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.decision.referral import fit_referral, out_of_fold_probabilities
    from lymphocytosis.system.prediction import predict_out_of_fold
    from lymphocytosis.system.trained import gather_for

    size, fabric = ensemble.size, start_fabric(compute)
    embeddings = large_embeddings if size == "large" else small_embeddings
    referrals = {}
    for model, method in evidence["methods"].items():
        if evidence["lack"]:
            bags = gather_for(system, model, embeddings, patients)
            suite = system.suites[model]
            predictions = predict_out_of_fold(suite, bags, patients, splits, fabric)
            known = out_of_fold_probabilities(predictions, patients)
        else:
            predictions = evidence["classifier_predictions"]
            _, inputs = method.split(", ")
            known = out_of_fold_probabilities(predictions, patients, size=size, system=inputs)
        referrals[model] = fit_referral(
            known,
            ensemble.wanted_sensitivity,
            ensemble.error_rate,
            "out of fold" if evidence["lack"] else "evaluation",
        )
    return referrals


def fit_reference(
    system: TrainedSystem,
    embeddings: pa.Table,
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
) -> Any:
    """Learn what training patients look like; see `decision.unlike`.

    Args:
        system: the trained system.
        embeddings: patient_id, image_id, view, large, small.
        cell_images: the image store.
        cells: says which row is which cell.
        patients: ages and counts.
        splits: names the training patients.

    Returns:
        A Reference.
    """
    from lymphocytosis.decision import unlike
    from lymphocytosis.imaging.measures import measure_pictures
    from lymphocytosis.imaging.views import view_to_compare

    store.check_same_ingest(cells, cell_images)
    known = patients[patients["patient_id"].isin(splits["patient_id"])]
    taken = cells[cells["row"].notna() & cells["patient_id"].isin(known["patient_id"])]
    rows = taken["row"].to_numpy(dtype=np.int64)
    parts = np.array_split(rows, 1 + len(rows) // 256)
    measures = np.concatenate([measure_pictures(cell_images[part]) for part in parts])
    keys = ["patient_id", "image_id"]
    ids = embeddings.select([*keys, "view"]).to_pandas()
    one_view = ids[ids["view"] == view_to_compare(system.views)].reset_index()
    places = taken[keys].merge(one_view, "left")["index"].to_numpy(dtype=np.int64)
    large = embeddings["large"].take(pa.array(places)).combine_chunks()
    instances = large.flatten().to_numpy().reshape(len(rows), -1)
    return unlike.fit_reference(known, taken, measures, instances)


def make_bundle(
    autoencoder: dict[str, Any],
    encoder_graph: dict[str, Any] | None,
    evidence: dict[str, Any],
    referrals: dict[str, Any],
    reference: Any,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    ensemble: EnsembleParameters,
    compute: ComputeParameters,
    **classifiers: dict[str, Any],
) -> Any:
    """Put the parts together, and describe them; see `system.card`.

    Args:
        autoencoder: the packed encoder.
        encoder_graph: as `embed` made it; None if it did not.
        evidence: as `find_evidence` returns it.
        referrals: as `fit_referrals` returns them.
        reference: as `fit_reference` returns it.
        patients: the patients.
        splits: names the training patients.
        ensemble: the block `ensemble` of the parameters.
        compute: the block `compute`.
        classifiers: packed, by model; those that were not trained are empty.

    Returns:
        A Bundle.
    """
    from lymphocytosis.encoders.backend import portable_graph
    from lymphocytosis.encoders.checkpoint import fingerprint, without_training
    from lymphocytosis.system.bundle import Bundle
    from lymphocytosis.system.card import describe_system, write_card

    known = patients[patients["patient_id"].isin(splits["patient_id"])]
    packed = without_training(autoencoder)
    carried = fingerprint(packed)
    # `embed` keeps none on a GPU, and the bundle is for CPUs, too.
    graph = portable_graph(autoencoder, encoder_graph, compute)
    made = {
        model: {**content, "parameters": {**content["parameters"], "encoder": carried}}
        for model, content in classifiers.items()
        if content
    }
    facts = describe_system(autoencoder, made, known, evidence, referrals, reference, ensemble)
    return Bundle(
        autoencoder=packed,
        onnx=graph["onnx"].numpy().tobytes() if graph else None,
        classifiers=made,
        referrals=referrals,
        reference=reference,
        ensemble=ensemble,
        compute=compute.model_copy(
            update={"accelerator": "auto", "embed_backend": "onnx" if graph else "torch"}
        ),
        facts=facts,
        card=write_card(facts),
    )
