"""The project's own commands: `kedro runs list | show | diff | prune`."""

# Kedro imports this file for every command: what takes long is imported where it is used.
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.utils import _split_params, env_option

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from lymphocytosis.runs.history import Run


@click.group(name="lymphocytosis")
def cli() -> None:
    """Commands of this project."""


@cli.group()
def runs() -> None:
    """List, show, compare and remove the runs of a workspace."""


def _of_workspace(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name the workspace, as for `kedro run`."""
    params = click.option(
        "--params",
        type=click.UNPROCESSED,
        default="",
        callback=_split_params,
        help="As for `kedro run`: --params=workspace=my_run.",
    )
    return env_option(params(command))


@runs.command("list")
@_of_workspace
def list_(env: str | None, params: dict[str, Any]) -> None:
    """List the runs, the newest first."""
    from lymphocytosis.runs.showing import list_runs

    workspace, found = _find(_context(env, params))
    _show(list_runs(found, workspace, _running(workspace, found)))


@runs.command()
@click.argument("run", required=False)
@_of_workspace
def show(run: str | None, env: str | None, params: dict[str, Any]) -> None:
    """Show a run: what it was made from, what it made, how long it took.

    RUN is the name of its versions, or how that begins; without it, the newest run is shown.
    """
    from lymphocytosis.runs.showing import show_run

    workspace, found = _find(_context(env, params))
    chosen = _named(run or found[0].version, found)
    _show(show_run(chosen, found, workspace, _running(workspace, found)))


@runs.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@_of_workspace
def diff(first: str, second: str, env: str | None, params: dict[str, Any]) -> None:
    """Say in what parameters, inputs and results two runs, A and B, differ.

    Each is the name of a run's versions, or how that begins.
    """
    from lymphocytosis.runs.comparing import say_differences

    _, found = _find(_context(env, params))
    old, new = _named(first, found), _named(second, found)
    _show([f"A: {old.version}", f"B: {new.version}", "", *say_differences(old, new)])


@runs.command()
@click.option(
    "--keep", type=click.IntRange(min=1), required=True, help="How many versions of each entry."
)
@click.option("--yes", is_flag=True, help="Remove them; without it, nothing is removed.")
@_of_workspace
def prune(keep: int, yes: bool, env: str | None, params: dict[str, Any]) -> None:
    """Remove old runs, and nothing that a kept one was made from."""
    from lymphocytosis.hooks.workspace import lock_workspace
    from lymphocytosis.runs.pruning import choose_kept, remove_run
    from lymphocytosis.runs.showing import in_bytes

    context = _context(env, params)
    workspace, found = _find(context)
    lock = lock_workspace(workspace) if yes else None
    if lock:
        workspace, found = _find(context)  # a run may just have ended
    kept = choose_kept(found, keep, _entries(context, workspace), workspace)
    old = [run for run in found if run.version not in kept]
    sizes = [run.size for run in old]
    lines = ["kept:"]
    for run in found:
        if run.version in kept:
            lines += wrap(
                f"{run.version}  {kept[run.version]}",
                width=80,
                initial_indent="  ",
                subsequent_indent=" " * 28,
            )
    lines += ["to remove:" if old else "to remove: nothing"]
    lines += [f"  {run.version}{in_bytes(size):>10}" for run, size in zip(old, sizes, strict=True)]
    _show(lines)
    if not old:
        return
    if not lock:
        _show([f"{in_bytes(sum(sizes))} would be free. Nothing is removed without --yes."])
        return
    try:
        for run in old:
            remove_run(run)
    except OSError as error:
        raise click.ClickException(
            f"Not all could be removed: {error}. What is left is whole; give the command again."
        ) from error
    finally:
        lock.release()
    _show([f"removed {len(old)} run(s): {in_bytes(sum(sizes))} are free"])


def _context(env: str | None, params: dict[str, Any]) -> KedroContext:
    from kedro.framework.session import KedroSession

    return KedroSession.create(env=env, runtime_params=params).load_context()


def _find(context: KedroContext) -> tuple[Path, list[Run]]:
    from lymphocytosis.hooks.mirror import mirror_of
    from lymphocytosis.runs.history import find_runs

    workspace = Path(context.params["workspace"])
    if mirror := mirror_of(workspace):
        raise click.ClickException(
            f"The workspace is {mirror.url}, and runs are listed and removed in folders alone. "
            "Copy its 08_reporting/ to a folder to list them."
        )
    found = find_runs(workspace)
    if not found:
        raise click.ClickException(
            f"There is no run in {workspace}. Name another workspace by --params=workspace=..., or "
            "an environment by --env=..."
        )
    return workspace, found


def _named(name: str, found: Sequence[Run]) -> Run:
    from lymphocytosis.errors import some

    matching = [run for run in found if run.version.startswith(name)]
    if len(matching) != 1:
        those = "fits more than one run" if matching else "fits no run"
        versions = [run.version for run in matching or found]
        raise click.ClickException(f"{name} {those}: {some(versions)}.")
    return matching[0]


def _running(workspace: Path, found: Sequence[Run]) -> str | None:
    """The run that has the workspace locked, if it has begun its manifest."""
    from filelock import FileLock, Timeout

    if found[0].exit != "no end":
        return None
    try:
        with FileLock(workspace / ".run.lock", blocking=False):
            return None
    except Timeout:
        return found[0].version


def _entries(context: KedroContext, workspace: Path) -> set[str]:
    """The versioned entries of the catalog, by their paths in the workspace."""
    from kedro.framework.project import pipelines
    from kedro.io import AbstractVersionedDataset

    catalog = context.catalog
    names = {name for made in pipelines.values() for name in made.all_outputs()}
    datasets = (catalog.get(name) for name in names)
    paths = (Path(d._filepath) for d in datasets if isinstance(d, AbstractVersionedDataset))
    return {
        path.relative_to(workspace).as_posix() for path in paths if path.is_relative_to(workspace)
    }


def _show(lines: Sequence[str]) -> None:
    from lymphocytosis.terminal import harmless

    click.echo(harmless("\n".join(lines)))
