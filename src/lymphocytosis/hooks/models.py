"""A run's parameters must agree with the models that it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.paths import PATHS
from lymphocytosis.parameters import OF_MACHINE, Parameters, leaves

if TYPE_CHECKING:  # torch takes seconds
    from lymphocytosis.system.bundle import Bundle

# Each pipeline uses the seed for itself; the others are about reading pictures, not models.
_FREE = {"seed", "image.unreadable", "image.other_size", "image.other_mode"}
_SHOWN = 5


def check_models(
    pipeline: Pipeline, catalog: DataCatalog, parameters: Parameters, given: dict[str, Any]
) -> set[str]:
    """Refuse parameters that a loaded model contradicts.

    A bundle comes with its own parameters: only those that were given for this run are compared.

    Args:
        pipeline: what will run.
        catalog: its datasets, with their versions fixed.
        parameters: the run's.
        given: by `--params`.

    Returns:
        The names of the parameters compared.

    Raises:
        UserError: a parameter differs, with both values; or a model is damaged.
    """
    compared: set[str] = set()
    models = {entry: catalog.get(entry) for entry in sorted(pipeline.inputs())}
    for entry, model in models.items():
        if not isinstance(model, StateDictDataset | BundleDataset):
            continue
        if not any(entry in made.all_outputs() for made in pipelines.values()):
            continue  # the state of an earlier training: its node compares all, and loads it once
        users = {node.namespace for node in pipeline.nodes if entry in node.inputs}
        if users == {"report"}:
            continue  # it tells the model's parameters, not the run's
        if users == {"evaluate"} and parameters.evaluation.pretraining == "each_fold":
            continue  # each fold trains its own encoder by the run's parameters
        asked = leaves(parameters.model_dump(mode="json"))
        if isinstance(model, BundleDataset):
            named = leaves(given).keys() - set(PATHS)
            asked = {key: value for key, value in asked.items() if key in named}
            carried = _carried(model.load()) if asked else {}
        else:
            carried = leaves(model.load().get("parameters"))
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
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            told = f"{'; '.join(faults[:_SHOWN])} in the"
            if isinstance(model, BundleDataset):
                raise UserError(
                    f"{told} bundle{more}. Leave what differs out of --params: a bundle brings its "
                    "own values."
                )
            maker = next(
                name
                for name, made in pipelines.items()
                if name != "__default__" and entry in made.all_outputs()
            )
            raise UserError(
                f"{told} model {entry}{more}. Give this run the model's values, or train the model "
                f"again: kedro run --pipelines={maker}"
            )
    return compared


def _carried(bundle: Bundle) -> dict[str, Any]:
    parts = {
        "compute": bundle.compute.model_dump(mode="json", exclude=OF_MACHINE),
        "ensemble": bundle.ensemble.model_dump(mode="json"),
    }
    encoder = leaves(bundle.autoencoder["parameters"])
    del encoder["encoder.weights"]  # a file's name alone, as it may be elsewhere now
    return leaves(parts) | encoder | leaves(bundle.classifiers["large"]["parameters"])
