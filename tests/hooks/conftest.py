from types import SimpleNamespace

import pytest


@pytest.fixture
def run_params():
    """What Kedro tells hooks of a run, as far as ours ask; a test changes what it is about."""
    narrowed = ("pipeline_names", "tags", "node_names", "from_nodes", "from_inputs", "namespaces")
    return dict.fromkeys(narrowed) | {
        "run_id": "2026-05-05T12.00.00.000Z",
        "env": None,
        "load_versions": None,
        "runtime_params": None,
        "only_missing_outputs": False,
    }


def one_machine(workspace):
    """The parameters of a run, as far as the hooks before it ask."""
    return SimpleNamespace(workspace=str(workspace), compute=SimpleNamespace(nodes=1, processes=1))
