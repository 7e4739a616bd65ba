"""From predictions to decisions, submissions and the table of results, for every kind of model.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

from kedro.pipeline import Node, node
from kedro.pipeline.preview_contract import MermaidPreview
from kedro.utils import KedroExperimentalWarning

from lymphocytosis.decision.rules import RULES
from lymphocytosis.parameters import EnsembleParameters
from lymphocytosis.pipelines.late import pd
from lymphocytosis.pipelines.sizes import bind


def compute_statistics(predictions: pd.DataFrame) -> pd.DataFrame:
    """Describe each patient's predictions; see `summarise`."""
    from lymphocytosis.decision.rules import summarise

    return summarise(predictions)


def apply_rule(statistics: pd.DataFrame, ensemble: EnsembleParameters, rule: str) -> pd.DataFrame:
    """Decide by one of the rules.

    Args:
        statistics: as `summarise` returns them.
        ensemble: the block `ensemble` of the parameters.
        rule: a key of `RULES`.

    Returns:
        patient_id, decision.
    """
    return RULES[rule].decide(statistics, ensemble)


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
    ensemble: EnsembleParameters,
    titles: Mapping[str, str],
    **tables: pd.DataFrame,
) -> pd.DataFrame:
    """Make the paper's Table 1.

    Args:
        patients: says which labels are known.
        ensemble: the block `ensemble` of the parameters.
        titles: of the kinds of models.
        tables: by their names in the catalog: for each kind of model the test patients' decisions
            by each rule, the predictions of labelled patients by models not trained on them, and
            the history of the models' training.

    Returns:
        A row a method, in the paper's order.
    """
    from lymphocytosis.decision.results import tabulate
    from lymphocytosis.decision.rules import summarise

    statistics = {models: summarise(tables[f"{models}_out_of_fold"]) for models in titles}
    test, out_of_fold = {}, {}
    for name, rule in RULES.items():
        for models, title in titles.items():
            method = f"{title} {rule.title.format(**ensemble.model_dump())}"
            test[method] = tables[f"{models}_{name}"]
            out_of_fold[method] = rule.decide(statistics[models], ensemble)
    # Of a single epoch there is nothing to choose.
    chosen = any(tables[f"{models}_history"]["epoch"].max() > 1 for models in titles)
    return tabulate(patients, test, out_of_fold, chosen)


def decide(models: str) -> list[Node]:
    """Wire the predictions of one kind of model to its decisions.

    Args:
        models: large, small or pictures; its entries in the catalog begin with it.

    Returns:
        The nodes.
    """
    statistics = node(
        compute_statistics,
        inputs=f"{models}_predictions",
        outputs=f"{models}_statistics",
        name="compute_statistics",
    )
    nodes = [statistics]
    for rule, (_, _, diagram) in RULES.items():
        decisions = f"{models}_{rule}"
        with warnings.catch_warnings():
            # That previews of nodes are an experiment of Kedro's concerns no user.
            warnings.simplefilter("ignore", KedroExperimentalWarning)
            apply = node(
                bind(apply_rule, rule=rule),
                inputs=[f"{models}_statistics", "params:ensemble"],
                outputs=decisions,
                name=f"apply_{rule}_rule",
                preview_fn=partial(MermaidPreview, diagram) if diagram else None,
            )
        submit = node(
            make_submission,
            inputs=decisions,
            outputs=f"submission_{decisions}",
            name=f"submit_{rule}",
        )
        nodes += [apply, submit]
    return nodes


def compare(titles: Mapping[str, str], outputs: str) -> Node:
    """Wire decisions to a table of results.

    Args:
        titles: of the kinds of models, in the order of the table.
        outputs: the table's entry in the catalog.

    Returns:
        The node.
    """
    tables = [
        f"{models}_{name}" for models in titles for name in (*RULES, "out_of_fold", "history")
    ]
    return node(
        bind(tabulate_results, titles=titles),
        inputs={"patients": "patients", "ensemble": "params:ensemble", **{t: t for t in tables}},
        outputs=outputs,
        name="tabulate_results",
    )
