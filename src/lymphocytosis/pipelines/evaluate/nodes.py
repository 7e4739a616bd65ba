"""Nodes of the evaluate pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from lymphocytosis.display import Work, working
from lymphocytosis.parameters import (
    ClinicalParameters,
    ComputeParameters,
    EncoderParameters,
    EnsembleParameters,
    EvaluationParameters,
    MilParameters,
    PretextParameters,
    SplitParameters,
)
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.late import CellImages, Figure, np, pa, pd, store
from lymphocytosis.pipelines.sizes import SIZES, fingerprint, select_embedding
from lymphocytosis.pipelines.ssl_pretrain.nodes import pretrain_encoder
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

# Of the regression behind the learning curves, where `mil.components` is 0.
COMPONENTS = 100


def make_folds(
    patients: pd.DataFrame, supplied_folds: pd.DataFrame | None, evaluation: EvaluationParameters
) -> pd.DataFrame:
    """Draw the outer folds, or take the user's.

    Args:
        patients: patient_id, person, subset, label, and others.
        supplied_folds: the user's own table, or None.
        evaluation: the block `evaluation` of the parameters.

    Returns:
        repeat, fold, patient_id.
    """
    from lymphocytosis.mil.folds import draw_folds, take_supplied_folds

    if evaluation.source == "supplied":
        return take_supplied_folds(supplied_folds, patients)
    return draw_folds(patients, evaluation)


def predict_by_controls(
    patients: pd.DataFrame,
    clinical_annotation: pd.DataFrame,
    cell_images: CellImages,
    evaluation_folds: pd.DataFrame,
    evaluation: EvaluationParameters,
    ensemble: EnsembleParameters,
    clinical: ClinicalParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict held-out patients without any picture, and test the controls for leaks.

    Args:
        patients: labels, clinical values and cell counts.
        clinical_annotation: the table as the hospital gave it.
        cell_images: the image store, for the records of its files.
        evaluation_folds: repeat, fold, patient_id.
        evaluation: the block `evaluation` of the parameters.
        ensemble: the block `ensemble`.
        clinical: the block `clinical`: what the table's columns are called.

    Returns:
        The predictions, see `predict_controls`; and the tests, see `judge_controls`.
    """
    from lymphocytosis.cohort.clinical import table_traces
    from lymphocytosis.decision.controls import judge_controls, predict_controls
    from lymphocytosis.mil.splits import check_patients_of

    check_patients_of("evaluation_folds", evaluation_folds, patients)
    traces = table_traces(clinical_annotation, patients, clinical.columns).merge(
        store.picture_traces(cell_images), "left"
    )
    predicted = predict_controls(
        patients, traces, evaluation_folds, ensemble.wanted_sensitivity, evaluation.seed
    )
    return predicted, judge_controls(patients, traces, evaluation_folds, evaluation.seed)


def predict_by_classifiers(
    embeddings: pa.Table,
    autoencoder: dict[str, Any],
    cell_images: CellImages,
    cells: pd.DataFrame,
    patients: pd.DataFrame,
    evaluation_folds: pd.DataFrame,
    views: list[str],
    encoder: EncoderParameters,
    pretext: PretextParameters,
    mil: MilParameters,
    splits: SplitParameters,
    compute: ComputeParameters,
    evaluation: EvaluationParameters,
    progress: Progress,
) -> pd.DataFrame:
    """Train and predict, inside each outer fold, all that needs pictures.

    Args:
        embeddings: patient_id, image_id, view, large, small.
        autoencoder: the packed encoder that must have made them.
        cell_images: the image store; read only where the encoder is pretrained in each fold.
        cells: likewise.
        patients: labels and clinical values.
        evaluation_folds: repeat, fold, patient_id.
        views: the views that are embedded.
        encoder: the block `encoder` of the parameters.
        pretext: the block `pretext`.
        mil: the block `mil`.
        splits: the block `splits`.
        compute: the block `compute`.
        evaluation: the block `evaluation`.
        progress: where each finished fold is kept until the run ends well; and of the fold at
            work, where it pretrains, each epoch, shard and size.

    Returns:
        size, system, repeat, fold, role, patient_id, split, view, probability; see
        `predict_held_out`. Its `attrs`, which Parquet keeps, tell what the predictions were made
        with: the encoder's fingerprint (or that each fold pretrained one), the views, the block
        `mil`.

    Raises:
        UserError: another encoder made the embeddings than the one whose training would be told
            beside the scores; or the folds are of other patients.
    """
    from lymphocytosis.encoders import checkpoint, weights
    from lymphocytosis.errors import UserError
    from lymphocytosis.mil.nested import Recipe
    from lymphocytosis.mil.splits import check_patients_of

    check_patients_of("evaluation_folds", evaluation_folds, patients)
    made_by = (embeddings.schema.metadata or {}).get(b"autoencoder", b"").decode()
    if evaluation.pretraining == "once" and made_by != checkpoint.fingerprint(autoencoder):
        raise UserError(
            "The embeddings were made by another encoder than that of the catalog entry "
            "'autoencoder'. Run embed again."
        )
    made_with: dict[Hashable | None, Any] = {
        "encoder": made_by if evaluation.pretraining == "once" else "pretrained in each fold",
        "views": views,
        "mil": mil.model_dump(mode="json"),
    }
    recipe = Recipe(mil, splits, compute, evaluation.seed)
    progress.begin(
        {
            "the embeddings": fingerprint(embeddings),
            "the pictures": store.fingerprint(cell_images),
            "the table of patients": patients.to_csv(),
            "the folds": evaluation_folds.to_csv(),
            "the parameter views": views,
            "the parameters encoder": encoder,
            "the file of weights": weights.fingerprint(encoder),
            "the parameters pretext": pretext,
            "the parameters mil": mil,
            "the parameters splits": splits,
            "the parameters compute": compute,
            "the parameters evaluation": evaluation,
        }
    )
    by_fold = evaluation_folds.groupby(["repeat", "fold"])
    once, count = evaluation.pretraining == "once", by_fold.ngroups
    steps = len(SIZES) * count

    def at_work(done: int) -> str:
        now = min(done, steps - 1)
        size, fold = divmod(now, count) if once else (now % len(SIZES), now // len(SIZES))
        return f"fold {fold + 1} of {count}, {SIZES[size]}"

    tables = []
    with working("evaluate", steps, "trainings", at_work) as work:
        if once:
            tables = [
                _predict_sizes(embeddings, patients, evaluation_folds, recipe, progress, work)
            ]
        for (repeat, fold), held_out in [] if once else by_fold:
            title = f"repeat-{repeat}-fold-{fold}"
            table = progress.table(title)
            if table is None:
                within = progress.part(title)
                # Who may be the same person as one held out is not seen either, test patients
                # included.
                out = patients.loc[patients["patient_id"].isin(held_out["patient_id"]), "person"]
                others = patients[~patients["person"].isin(out)]
                own_seed = evaluation.seed + 1000 * (int(held_out["repeat"].iloc[0]) - 1)
                pretrained, *_ = pretrain_encoder(
                    cell_images, cells, others, None, encoder, pretext, compute, own_seed,
                    within.part("pretrain"),
                )  # fmt: skip
                embedded = embed_cells(
                    cell_images, pretrained, None, views, compute, within.part("embed")
                )
                fresh = pa.concat_tables(embedded)
                table = _predict_sizes(fresh, patients, held_out, recipe, within, work)
                progress.save_table(title, table)
                # Its encoder and embeddings take room, and are not needed any more.
                within.clear()
            else:
                work.resume(len(SIZES))
                logger.info("repeat %s, fold %s was finished before", repeat, fold)
            tables.append(table)
    predicted = pd.concat(tables, ignore_index=True)
    predicted.attrs = made_with
    return predicted


def _predict_sizes(
    embeddings: pa.Table,
    patients: pd.DataFrame,
    folds: pd.DataFrame,
    recipe: Any,
    progress: Progress,
    work: Work,
) -> pd.DataFrame:
    from lymphocytosis.mil.bags import gather_bags
    from lymphocytosis.mil.nested import predict_held_out

    tables = []
    for size in SIZES:
        bags = gather_bags(select_embedding(embeddings, size), patients)
        predicted = predict_held_out(bags, patients, folds, recipe, size, progress, work)
        tables.append(predicted.assign(size=size))
    return pd.concat(tables, ignore_index=True)


def join_predictions(
    control_predictions: pd.DataFrame,
    classifier_predictions: pd.DataFrame,
    patients: pd.DataFrame,
    ensemble: EnsembleParameters,
) -> pd.DataFrame:
    """Bring every method to one row for each repeat and patient; see `evidence`."""
    from lymphocytosis.decision import evidence
    from lymphocytosis.mil.splits import check_patients_of

    check_patients_of("control_predictions", control_predictions, patients)
    check_patients_of("classifier_predictions", classifier_predictions, patients)
    return evidence.join_predictions(
        control_predictions, classifier_predictions, patients, ensemble.wanted_sensitivity
    )


def judge_referral(
    classifier_predictions: pd.DataFrame, patients: pd.DataFrame, ensemble: EnsembleParameters
) -> pd.DataFrame:
    """Advise on each held-out patient, by what was fitted on the other folds' patients.

    Args:
        classifier_predictions: as `predict_by_classifiers` returns them.
        patients: labels and persons.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        method, and what `judge_referral` of `referral_evidence` returns.
    """
    from lymphocytosis.decision import referral_evidence
    from lymphocytosis.decision.choice import SYSTEMS
    from lymphocytosis.decision.referral import out_of_fold_probabilities
    from lymphocytosis.mil.splits import check_patients_of

    check_patients_of("classifier_predictions", classifier_predictions, patients)
    tables = []
    for size in SIZES:
        for system in SYSTEMS:
            table = referral_evidence.judge_referral(
                out_of_fold_probabilities(
                    classifier_predictions, patients, size=size, system=system
                ),
                ensemble.wanted_sensitivity,
                ensemble.error_rate,
            )
            table.insert(0, "method", f"{size}, {system}")
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def measure_referral(
    referral_predictions: pd.DataFrame, evaluation: EvaluationParameters
) -> pd.DataFrame:
    """Score the advice; see `referral_evidence`."""
    from lymphocytosis.decision import referral_evidence

    return referral_evidence.measure_referral(
        referral_predictions, evaluation.resamples, evaluation.confidence, evaluation.seed
    )


def measure_evidence(
    nested_predictions: pd.DataFrame,
    control_tests: pd.DataFrame,
    referral_evaluation: pd.DataFrame,
    autoencoder: dict[str, Any],
    encoder: EncoderParameters,
    pretext: PretextParameters,
    evaluation: EvaluationParameters,
    ensemble: EnsembleParameters,
) -> tuple[pd.DataFrame, str]:
    """Score every method, compare it with clinical values alone, and say in words what follows.

    Args:
        nested_predictions: as `join_predictions` returns them.
        control_tests: as `predict_by_controls` returns them.
        referral_evaluation: as `measure_referral` returns it.
        autoencoder: the packed encoder; it tells which pictures it was trained on.
        encoder: the block `encoder` of the parameters: what each fold built, where each did.
        pretext: the block `pretext`, likewise.
        evaluation: the block `evaluation`.
        ensemble: the block `ensemble`.

    Returns:
        The evaluation table; and its summary in Markdown, warnings first.

    Raises:
        UserError: the entry `autoencoder`, where it is what made the embeddings, is none.
    """
    from lymphocytosis.decision.evidence import measure
    from lymphocytosis.decision.leaks import judge_shuffles
    from lymphocytosis.decision.summary import (
        describe_evaluation,
        describe_referral,
        say_what_encoder_saw,
        warn,
    )
    from lymphocytosis.encoders import checkpoint

    table = measure(
        nested_predictions, evaluation.resamples, evaluation.confidence, evaluation.seed
    )
    tests = pd.concat([control_tests, judge_shuffles(nested_predictions, evaluation.seed)])
    warnings = warn(table, tests)
    if evaluation.pretraining == "each_fold":
        seen = say_what_encoder_saw(pretext.name, pretext.images, encoder.weights, True)
    else:
        used = checkpoint.origin(autoencoder)
        seen = say_what_encoder_saw(used.task, used.images, used.weights, False)
    logger.info(seen)
    for warning in warnings:
        logger.warning(warning)
    summary = describe_evaluation(table, tests, warnings, seen)
    return table, summary + "\n" + describe_referral(referral_evaluation, ensemble)


def measure_subgroups(
    nested_predictions: pd.DataFrame, patients: pd.DataFrame, evaluation: EvaluationParameters
) -> pd.DataFrame:
    """Score methods by age, sex and count; see `subgroups`."""
    from lymphocytosis.decision import subgroups

    return subgroups.measure_subgroups(
        nested_predictions,
        patients,
        evaluation.resamples,
        evaluation.confidence,
        evaluation.seed,
    )


def measure_learning_curves(
    embeddings: pa.Table,
    patients: pd.DataFrame,
    evaluation_folds: pd.DataFrame,
    mil: MilParameters,
    ensemble: EnsembleParameters,
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Measure what more patients and more cells bring; see `learning_curves`.

    Args:
        embeddings: patient_id, image_id, view, large, small; those of the first view are taken.
        patients: labels and clinical values.
        evaluation_folds: repeat, fold, patient_id.
        mil: the block `mil` of the parameters, for `components` and `logistic_c`.
        ensemble: the block `ensemble`; its size is taken.
        evaluation: the block `evaluation`.

    Returns:
        varied, number, method, metric, value, low, high, patients, repeats.
    """
    from lymphocytosis.decision import learning_curves
    from lymphocytosis.mil.bags import gather_bags
    from lymphocytosis.mil.whitening import fit_whitening, whiten

    bags = gather_bags(select_embedding(embeddings, ensemble.size), patients)
    one_view = np.flatnonzero([view == bags.view[0] for view in bags.view])
    cells = bags.instances[bags.rows_of(one_view)]
    return learning_curves.measure_learning_curves(
        whiten(cells, fit_whitening(cells, mil.components or COMPONENTS)).numpy(),
        bags.patient[one_view].repeat(bags.size[one_view]),
        patients,
        evaluation_folds,
        mil.logistic_c,
        evaluation.confidence,
        evaluation.seed,
    )


def plot_curves(
    nested_predictions: pd.DataFrame, scores: pd.DataFrame, evaluation: EvaluationParameters
) -> Figure:
    """Draw ROC and precision-recall curves with their bands; see `figures`."""
    from lymphocytosis.pipelines.evaluate import figures

    return figures.plot_curves(nested_predictions, scores, evaluation)


def plot_calibration(
    nested_predictions: pd.DataFrame,
    referral_predictions: pd.DataFrame,
    evaluation: EvaluationParameters,
) -> Figure:
    """Draw observed against predicted shares of tumoral patients; see `figures`."""
    from lymphocytosis.pipelines.evaluate import figures

    return figures.plot_calibration(nested_predictions, referral_predictions, evaluation)


def plot_net_benefit(nested_predictions: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw what a referral by each method is worth; see `figures`."""
    from lymphocytosis.pipelines.evaluate import figures

    return figures.plot_net_benefit(nested_predictions, evaluation)


def plot_differences(scores: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw each method's score and its paired difference from age and count; see `figures`."""
    from lymphocytosis.pipelines.evaluate import figures

    return figures.plot_differences(scores, evaluation)


def plot_learning_curves(learning_curves: pd.DataFrame, evaluation: EvaluationParameters) -> Figure:
    """Draw what more patients and more cells bring; see `figures`."""
    from lymphocytosis.pipelines.evaluate import figures

    return figures.plot_learning_curves(learning_curves, evaluation)
