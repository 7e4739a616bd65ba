"""Reading and checking the parameters, before anything else."""

from contextlib import suppress
from copy import copy
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.pipeline import Pipeline

from lymphocytosis.errors import UserError
from lymphocytosis.hooks.paths import PATHS, make_paths_absolute
from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import Parameters, check_parameters

# The parameters that are lists, by their block.
_LISTS = (
    ("", "views"), ("encoder", "pool"), ("encoder", "layers"), ("encoder", "zooms"),
    ("mil", "hidden_widths"),
)  # fmt: skip


def read_parameters(context: KedroContext) -> Parameters:
    """Read and check the run's parameters, and give the catalog the same folders.

    Args:
        context: Kedro's; its configuration gets the absolute paths.

    Returns:
        The typed parameters.

    Raises:
        ClickException: parameters.yml or catalog.yml can't be read, or a value can't be used.
    """
    loader = context.config_loader
    # A copy, because a loader resolves runtime parameters only once.
    raw = _read(copy(loader), "parameters")
    split_lists(raw)
    try:
        make_paths_absolute(raw, context.project_path)
        parameters = check_parameters(raw)
    except UserError as error:
        raise refusal(str(error)) from error
    loader.runtime_params = {**(loader.runtime_params or {}), **{k: raw[k] for k in PATHS}}
    # So that Kedro does not read and resolve every file again.
    loader["parameters"] = raw
    loader["catalog"] = _read(loader, "catalog")
    return parameters


def split_lists(raw: dict[str, Any]) -> None:
    """Take 1 and `1+2` for lists: in `--params`, Kedro takes a comma for the next parameter.

    Args:
        raw: the merged content of parameters.yml and `--params`; its lists are replaced.
    """
    for block, name in _LISTS:
        values = raw.get(block) if block else raw
        if not isinstance(values, dict):
            continue
        value = values.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            values[name] = [_number_or_word(item) for item in str(value).split("+")]


def _number_or_word(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def without_effect(given: dict[str, Any], pipeline: Pipeline) -> list[str]:
    """Find parameters that no node of a run reads, except paths, which the catalog reads.

    Args:
        given: by `--params`.
        pipeline: what will run.

    Returns:
        Their names, such as `mil.epochs`.
    """
    read = {entry.removeprefix("params:") for entry in pipeline.inputs()}
    return [name for key in given.keys() - read - set(PATHS) for name in _names(key, given[key])]


def _names(key: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [name for inner in value for name in _names(f"{key}.{inner}", value[inner])]


def _read(loader: AbstractConfigLoader, name: str) -> dict[str, Any]:
    try:
        return loader[name]
    except Exception as error:
        # Kedro, PyYAML and OmegaConf raise errors of their own.
        raise refusal(f"{name}.yml can't be read: {error}") from error
