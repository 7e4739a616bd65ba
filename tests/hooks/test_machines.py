from types import SimpleNamespace

import click
import pytest
from kedro.pipeline import Pipeline, node

from lymphocytosis.hooks.machines import help_first_machine, warn_of_idle_processes


def test_a_run_that_machines_can_not_share_is_refused():
    """That the others help and save nothing is shown by two machines, in test_distributed.py."""
    pipeline = Pipeline([node(len, inputs="cells", outputs="count", name="count")])
    parameters = SimpleNamespace(compute=SimpleNamespace(nodes=3), workspace="out")
    with pytest.raises(click.ClickException, match=r"compute\.nodes is 3, and no node of this run"):
        help_first_machine(pipeline, parameters)


@pytest.mark.parametrize(
    ("made", "pretraining", "idle"),
    [
        ("count", "once", True),
        ("embeddings", "once", False),
        ("classifier_predictions", "once", True),
        ("classifier_predictions", "each_fold", False),
    ],
)
def test_processes_that_no_node_can_use_are_told(made, pretraining, idle, caplog):
    pipeline = Pipeline([node(len, inputs="cells", outputs=made, name="make")])
    parameters = SimpleNamespace(
        compute=SimpleNamespace(processes=2), evaluation=SimpleNamespace(pretraining=pretraining)
    )
    warn_of_idle_processes(pipeline, parameters)
    told = "compute.processes is 2, and no node of this run can be shared"
    assert (told in caplog.text) == idle
