"""Options of a run: unknown names are refused, with the nearest known ones."""

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.pipeline import Pipeline
from kedro.runner import ParallelRunner

from lymphocytosis.errors import some
from lymphocytosis.hooks.machines import Helped
from lymphocytosis.hooks.refusals import refusal


class Session(KedroSession):
    """Kedro's session, without its tracebacks for wrong options."""

    def run(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Check the options, then run; see Kedro's session."""
        check_options(options)
        try:
            return super().run(*args, **options)
        except Helped as done:
            click.echo(str(done))
            return {}


def check_options(options: dict[str, Any]) -> None:
    """Refuse options with unknown names, or that leave nothing to run.

    Args:
        options: of Kedro's `session.run`, by name.

    Raises:
        ClickException: with the option, the name, and the nearest known names.
    """
    if isinstance(options.get("runner"), ParallelRunner):
        raise refusal(
            "--runner=ParallelRunner can't be used: nodes pass tables in memory, which its "
            "processes don't share. Leave the option out: each node uses all cores."
        )
    given = options.get("pipeline_names") or []
    if options.get("pipeline_name"):
        given = [options["pipeline_name"]]
    # As Kedro does next; without it, all pipelines would be built twice.
    pipelines.set_requested(given or None)
    _refuse_unknown("pipelines", "pipeline", given, pipelines.keys())
    run = requested(given)
    nodes, entries = ("node", {node.name for node in run.nodes}), ("entry", run.datasets())
    groups = {prefix for node in run.nodes for prefix in node.namespace_prefixes}
    known = {
        "tags": ("tag", {tag for node in run.nodes for tag in node.tags}),
        "node_names": nodes,
        "from_nodes": nodes,
        "to_nodes": nodes,
        "from_inputs": entries,
        "to_outputs": entries,
        "namespaces": ("namespace", groups),
        "load_versions": entries,
    }
    chosen = {option: options[option] for option in known if options.get(option)}
    for option, names in chosen.items():
        _refuse_unknown(_flag(option), known[option][0], names, known[option][1])
    chosen.pop("load_versions", None)
    kedros = {"namespaces": "node_namespaces"}
    try:
        run.filter(**{kedros.get(option, option): names for option, names in chosen.items()})
    except ValueError:
        flags = " and ".join(f"--{_flag(option)}={','.join(chosen[option])}" for option in chosen)
        raise refusal(f"{flags} leave no node to run. Choose others, or fewer of them.") from None


def check_environment(context: KedroContext) -> None:
    """Refuse an environment without a folder.

    Args:
        context: Kedro's.

    Raises:
        ClickException: with the nearest existing environments.
    """
    folder = Path(context.config_loader.conf_source)
    if context.env and folder.is_dir():
        there = [path.name for path in folder.iterdir() if path.is_dir()]
        _refuse_unknown("env", "environment", [context.env], there)


def requested(names: Collection[str] | None) -> Pipeline:
    """The run's pipelines as one, before nodes are selected; without names the default one."""
    return sum((pipelines[name] for name in names or ["__default__"]), start=Pipeline([]))


def _flag(option: str) -> str:
    return option.replace("node_names", "nodes").replace("_", "-")


def _refuse_unknown(flag: str, kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name in known:
            continue
        near = [one for one in known if one.endswith(f".{name}")] or get_close_matches(name, known)
        there = f"the nearest: {some(near)}" if near else f"available: {some(sorted(known))}"
        raise refusal(f"--{flag}={name}: there is no such {kind} here; {there}.")
