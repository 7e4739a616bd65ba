from types import SimpleNamespace

import click
import pytest
from kedro.pipeline import Pipeline, node

from lymphocytosis.hooks.machines import help_first_machine


def test_a_run_that_machines_can_not_share_is_refused():
    """That the others help and save nothing is shown by two machines, in test_distributed.py."""
    pipeline = Pipeline([node(len, inputs="cells", outputs="count", name="count")])
    parameters = SimpleNamespace(compute=SimpleNamespace(nodes=3), workspace="out")
    with pytest.raises(click.ClickException, match=r"compute\.nodes is 3, and no node of this run"):
        help_first_machine(pipeline, parameters)
