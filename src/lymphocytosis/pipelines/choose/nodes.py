"""Nodes of the choose pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from lymphocytosis.parameters import EvaluationParameters
from lymphocytosis.pipelines.late import pd

logger = logging.getLogger(__name__)


def choose_recipes(
    evaluated_runs: dict[str, Callable[[], pd.DataFrame]],
    patients: pd.DataFrame,
    evaluation_folds: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """In each outer fold, choose and join recipes, by the predictions of finished evaluations.

    Args:
        evaluated_runs: functions that read a run's classifier predictions, by where they stand:
            the run's folder, and further down a folder for each version.
        patients: labels and clinical values.
        evaluation_folds: the folds that every run must have used.

    Returns:
        The chosen predictions and those of all recipes joined, see `choose_in_folds` and
        `join_in_folds`; and the table of choices.

    Raises:
        UserError: there are no two runs; or a run's table is not as it must be, or is of other
            folds.
    """
    from pandera.errors import SchemaErrors

    from lymphocytosis.decision.choice import choose_in_folds
    from lymphocytosis.decision.stacking import join_in_folds
    from lymphocytosis.errors import UserError, listed
    from lymphocytosis.schemas import classifier_predictions, faults_of

    # Sorted, so that of a run's versions the newest comes last.
    newest = {place.partition("/")[0]: place for place in sorted(evaluated_runs)}
    if len(newest) < 2:
        raise UserError(
            f"There is nothing to choose among: runs_dir holds {len(newest)} workspace(s) with an "
            "evaluation, and two are needed. Run evaluate in several workspaces below one folder, "
            "on the same folds, and name the folder by --params=runs_dir=..."
        )
    keys = ["repeat", "fold", "patient_id"]
    expected = evaluation_folds[keys].sort_values(keys, ignore_index=True)
    runs = {}
    for run, place in newest.items():
        try:
            runs[run] = classifier_predictions.validate(evaluated_runs[place](), lazy=True)
        except SchemaErrors as error:
            raise UserError(
                f"The table classifier_predictions of the run {run} ({place}) can't be used: "
                f"{listed(faults_of(error))}"
            ) from error
        held_out = runs[run].loc[runs[run]["role"] == "held_out", keys]
        if not held_out.drop_duplicates().sort_values(keys, ignore_index=True).equals(expected):
            raise UserError(
                f"The run {run} was evaluated on other folds than those of this workspace, so that "
                "no choice between them is fair. Run evaluate again, with the same cohort and the "
                "same evaluation.folds, evaluation.repeats and evaluation.seed."
            )
    chosen, choices = choose_in_folds(runs, patients.set_index("patient_id")["label"])
    joined = join_in_folds(runs, patients)
    return pd.concat([chosen, joined], ignore_index=True), choices


def measure_choice(
    choice_predictions: pd.DataFrame,
    control_tests: pd.DataFrame,
    choices: pd.DataFrame,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, str]:
    """Score what was chosen and what was joined like any other method.

    Args:
        choice_predictions: as `join_predictions` returns them.
        control_tests: as the evaluation of this workspace made them.
        choices: as `choose_recipes` returns them.
        evaluation: the block `evaluation` of the parameters.

    Returns:
        The table, as `measure` makes it; and a summary in Markdown.
    """
    from lymphocytosis.decision.choice import describe_choices
    from lymphocytosis.decision.evidence import measure
    from lymphocytosis.decision.summary import describe_evaluation, warn

    table = measure(
        choice_predictions, evaluation.resamples, evaluation.confidence, evaluation.seed
    )
    warnings = warn(table, control_tests)
    seen = "What each run's encoder saw is told by its own summary."
    summary = describe_evaluation(table, control_tests, warnings, seen)
    summary += "\n" + describe_choices(choices)
    for warning in warnings:
        logger.warning(warning)
    return table, summary
