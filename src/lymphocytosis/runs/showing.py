"""Runs in short tables, for a terminal of 80 columns."""

from collections.abc import Sequence
from pathlib import Path

from lymphocytosis.display import duration
from lymphocytosis.parameters import leaves
from lymphocytosis.runs.history import Run
from lymphocytosis.runs.manifest import Manifest, manifest_path
from lymphocytosis.runs.pruning import uses

_NODES_SHOWN = 5


def list_runs(runs: Sequence[Run], workspace: Path, running: str | None) -> list[str]:
    """List runs, a line each.

    Args:
        runs: the newest first.
        workspace: of the runs.
        running: the version of the run that is going on, if one is.

    Returns:
        Lines of up to 80 characters.
    """
    lines = [f"{'run':26}{'exit':9}{'time':>11}{'size':>10}  pipelines"]
    for run in runs:
        gone = run.gone(workspace)
        missing = f"{len(gone)} gone; " if gone else ""
        line = (
            f"{run.version:26}{_exit(run, running):9}{_time(run.manifest):>11}"
            f"{in_bytes(run.size):>10}  {missing}{_pipelines(run.manifest)}"
        )
        lines.append(line if len(line) <= 80 else f"{line[:77]}...")
    return lines


def show_run(run: Run, runs: Sequence[Run], workspace: Path, running: str | None) -> list[str]:
    """Show what is known of a run.

    Args:
        run: the run.
        runs: all of its workspace.
        workspace: of the runs.
        running: the version of the run that is going on, if one is.

    Returns:
        Lines of up to 80 characters, except for long names and values.
    """
    lines = [f"run {run.version}: {_exit(run, running)}, {in_bytes(run.size)}"]
    manifest = run.manifest
    if manifest is None:
        lines.append("It has no manifest: what it was made from is not known. It made:")
        return [*lines, *(f"  {entry}" for entry in sorted(run.folders))]
    if manifest.message:
        lines.append(manifest.message)
    code = manifest.code
    changed = ", changed since" if code["changed"] else ""
    commit = f", commit {str(code['commit'])[:12]}{changed}" if code["commit"] else ""
    lines += [
        f"began {manifest.began.astimezone():%Y-%m-%d %H:%M:%S}, took {_time(manifest)}",
        f"lymphocytosis {code['version']}{commit}, Python {manifest.packages['python']}",
        command_of(manifest),
        "",
        f"made from:{'' if manifest.inputs else ' nothing'}",
        *(
            f"  {entry:32}{in_bytes(file.size):>10}  {file.version or file.path}"
            for entry, file in manifest.inputs.items()
        ),
        "",
        f"made:{'' if manifest.outputs else ' nothing'}",
        *_made(run, manifest, workspace),
    ]
    longest = sorted(manifest.seconds.items(), key=lambda node: -node[1])[:_NODES_SHOWN]
    if longest:
        lines += ["", "nodes that took longest, in seconds:"]
        lines += [f"  {name:50}{seconds:10.1f}" for name, seconds in longest]
    if users := [user.version for user in runs if user.manifest is not None and uses(user, run)]:
        lines += ["", "used by:", *(f"  {user}" for user in users)]
    return [*lines, "", f"all of it: {manifest_path(workspace, run.version)}"]


def command_of(manifest: Manifest) -> str:
    """Write a run's options as a command."""
    names = {"runtime_params": "params", "pipeline_names": "pipelines", "node_names": "nodes"}
    words = ["kedro run"]
    for option, value in manifest.options.items():
        flag = "--" + names.get(option, option).replace("_", "-")
        if isinstance(value, dict):
            sign = ":" if option == "load_versions" else "="
            value = [f"{name}{sign}{one}" for name, one in leaves(value).items()]
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        words.append(flag if value is True else f"{flag}={value}")
    return " ".join(words)


def in_bytes(size: float) -> str:
    """Write a size in bytes, with its unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _exit(run: Run, running: str | None) -> str:
    if run.exit == "no end":
        return "running" if run.version == running else "killed"
    return run.exit


def _time(manifest: Manifest | None) -> str:
    if manifest is None or manifest.ended is None:
        return "-"
    return duration((manifest.ended - manifest.began).total_seconds())


def _pipelines(manifest: Manifest | None) -> str:
    if manifest is None:
        return "-"
    named = ",".join(manifest.options.get("pipeline_names") or ["everything"])
    narrowed = manifest.options.keys() & {
        "tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces",
    }  # fmt: skip
    return f"{named} (in part)" if narrowed else named


def _made(run: Run, manifest: Manifest, workspace: Path) -> list[str]:
    gone = run.gone(workspace)
    return [
        f"  {entry:32}{'gone' if entry in gone else in_bytes(file.size):>10}"
        f"{'' if file.version else f'  {file.path}'}"
        for entry, file in manifest.outputs.items()
    ]
