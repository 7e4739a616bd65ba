"""Removing old runs, and nothing that a kept one was made from."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from lymphocytosis.runs.history import Run
from lymphocytosis.runs.manifest import MANIFESTS
from lymphocytosis.whole_files import temporary_name


def choose_kept(
    runs: Sequence[Run], newest: int, entries: Collection[str], workspace: Path
) -> dict[str, str]:
    """Choose the runs to keep: a run is kept as a whole or not at all.

    Kept are the newest versions of every entry, so that a run finds what it loads; the run that
    made a bundle that is still there; and, from one to the next, every run that a kept one was made
    from. What a run without a manifest was made from is not known: all older runs are kept with it.

    Args:
        runs: the newest first.
        newest: how many versions of each entry are kept, at least 1.
        entries: those of the catalog, by their paths in the workspace.
        workspace: of the runs.

    Returns:
        By version, why the run is kept.
    """
    newest_of: dict[str, list[str]] = {}
    for entry in [MANIFESTS.as_posix(), *sorted(entries)]:
        for run in [run for run in runs if entry in run.folders][:newest]:
            newest_of.setdefault(run.version, []).append(Path(entry).stem)
    kept = {}
    for version, names in newest_of.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        one = "among the newest" if newest > 1 else "the newest"
        kept[version] = f"{one}: {', '.join(names[:3])}{more}"
    bundled: set[str] = set()
    for run in runs:
        bundle = None if run.manifest is None else run.manifest.outputs.get("bundle")
        if bundle and bundle.path not in bundled and (workspace / bundle.path).exists():
            bundled.add(bundle.path)
            kept.setdefault(run.version, f"it made the bundle {bundle.path}")
    to_follow = [run for run in runs if run.version in kept]
    while to_follow:
        user = to_follow.pop()
        for run in runs:
            if run.version not in kept and uses(user, run):
                kept[run.version] = f"{user.version} was made from it"
                to_follow.append(run)
    return kept


def uses(user: Run, maker: Run) -> bool:
    """Whether a run was made, or may have been, from what another one made.

    Args:
        user: the later run.
        maker: the earlier one.

    Returns:
        Whether `user` loaded one of `maker`'s versions, or its bundle; if `user` has no manifest,
        whether `maker` is older.
    """
    if user.manifest is None:
        return maker.version < user.version
    outputs = {} if maker.manifest is None else maker.manifest.outputs
    unversioned = {file.sha256 for file in outputs.values() if not file.version}
    return any(
        file.version == maker.version or (not file.version and file.sha256 in unversioned)
        for file in user.manifest.inputs.values()
    )


def remove_run(run: Run) -> None:
    """Remove a run's versions; its manifest last, so that a killed removal leaves a trace.

    Args:
        run: in a workspace that is locked.

    Raises:
        OSError: a folder can't be removed.
    """
    for entry in sorted(run.folders, key=lambda entry: entry == MANIFESTS.as_posix()):
        folder = run.folders[entry]
        # Under this name nobody finds half a version, and the next run in the workspace removes it.
        gone = temporary_name(folder)
        folder.rename(gone)
        shutil.rmtree(gone)
