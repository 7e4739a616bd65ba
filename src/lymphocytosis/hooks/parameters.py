"""Parameters are read and checked before anything else."""

from copy import copy
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.pipeline import Pipeline

from lymphocytosis.errors import UserError
from lymphocytosis.hooks.paths import FOLDERS, make_paths_absolute
from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import Parameters, check_parameters


def read_parameters(context: KedroContext) -> Parameters:
    """Read and check the run's parameters, and let the catalog use the same folders.

    Args:
        context: Kedro's; its configuration gets the absolute paths.

    Returns:
        The typed parameters.

    Raises:
        ClickException: a file of parameters or the catalog can't be read, or a value can't be used.
    """
    loader = context.config_loader
    # A copy reads them: a loader never again looks at runtime parameters that it has resolved.
    raw = _read(copy(loader), "parameters")
    try:
        make_paths_absolute(raw, context.project_path)
        parameters = check_parameters(raw)
    except UserError as error:
        raise refusal(str(error)) from error
    loader.runtime_params = {**(loader.runtime_params or {}), **{k: raw[k] for k in FOLDERS}}
    # Kedro asks for both once more, and would read and resolve every file again.
    loader["parameters"] = raw
    loader["catalog"] = _read(loader, "catalog")
    return parameters


def without_effect(given: dict[str, Any], pipeline: Pipeline) -> list[str]:
    """Find parameters that no node of a run reads; places apart, which the catalog reads.

    Args:
        given: for this run alone, by `--params`.
        pipeline: what will run.

    Returns:
        Their names, with dots.
    """
    read = {entry.removeprefix("params:") for entry in pipeline.inputs()}
    return [name for key in given.keys() - read - set(FOLDERS) for name in _names(key, given[key])]


def _names(key: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [name for inner in value for name in _names(f"{key}.{inner}", value[inner])]


def _read(loader: AbstractConfigLoader, name: str) -> dict[str, Any]:
    try:
        return loader[name]
    except Exception as error:
        # Kedro, PyYAML and OmegaConf each have their own for a file they can't read.
        raise refusal(f"{name}.yml can't be read: {error}") from error
