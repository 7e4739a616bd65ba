"""A run's parameters must agree with the models that it loads."""

from typing import Any

from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import Parameters

# Each pipeline uses the seed for itself; the others are about reading pictures, not models.
_FREE = {"seed", "image.unreadable", "image.other_size", "image.other_mode"}
_SHOWN = 5


def check_models(pipeline: Pipeline, catalog: DataCatalog, parameters: Parameters) -> set[str]:
    """Refuse parameters that a loaded model contradicts.

    Args:
        pipeline: what will run.
        catalog: its datasets, with their versions fixed.
        parameters: the run's.

    Returns:
        The names of the parameters compared.

    Raises:
        UserError: a parameter differs, with both values; or a model is damaged.
    """
    compared: set[str] = set()
    models = {entry: catalog.get(entry) for entry in sorted(pipeline.inputs())}
    for entry, model in models.items():
        if not isinstance(model, StateDictDataset):
            continue
        users = {node.namespace for node in pipeline.nodes if entry in node.inputs}
        if users == {"evaluate"} and parameters.evaluation.pretraining == "each_fold":
            continue  # each fold trains its own encoder by the run's parameters
        asked = _leaves(parameters.model_dump(mode="json"))
        carried = _leaves(model.load().get("parameters"))
        both = asked.keys() & carried.keys() - _FREE
        if entry.endswith("_pictures_only_classifiers"):
            both.discard("mil.inputs")  # as their name says
        compared |= both
        faults = [
            f"{key} is {asked[key]!r} for this run and {carried[key]!r}"
            for key in asked
            if key in both and asked[key] != carried[key]
        ]
        if faults:
            maker = next(
                name
                for name, made in pipelines.items()
                if name != "__default__" and entry in made.all_outputs()
            )
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise UserError(
                f"{'; '.join(faults[:_SHOWN])} in the model {entry}{more}. Give this run the "
                f"model's values, or train the model again: kedro run --pipelines={maker}"
            )
    return compared


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    inner = (_leaves(value[name], f"{key}.{name}" if key else str(name)) for name in value)
    return {name: leaf for leaves in inner for name, leaf in leaves.items()}
