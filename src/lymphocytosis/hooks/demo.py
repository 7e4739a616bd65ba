"""The demo first simulates its cohort."""

from typing import Any

from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

_NARROWED_BY = ("pipeline_names", "tags", "node_names", "from_nodes", "from_inputs", "namespaces")


def draws_cohort_first(run_params: dict[str, Any], pipeline: Pipeline) -> bool:
    """Whether this is the demo's default run, from its beginning."""
    narrowed = any(run_params[option] for option in _NARROWED_BY)
    return run_params["env"] == "demo" and not narrowed and "cohort_pictures" in pipeline.inputs()


def draw_cohort(run_params: dict[str, Any], catalog: DataCatalog) -> None:
    """Run `simulate`.

    A separate run, not part of the default pipeline: all sessions of a process share one registry
    of pipelines, and a session of the base environment must never simulate.
    """
    SequentialRunner().run(
        pipelines["simulate"],
        catalog,
        run_id=run_params["run_id"],
        only_missing_outputs=run_params["only_missing_outputs"],
    )
