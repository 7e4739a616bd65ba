"""The workspace: locked for one run at a time, cleaned up after a killed run."""

import os
import platform
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.whole_files import remove_parts


def lock_workspace(workspace: Path) -> FileLock:
    """Lock the workspace for this run; clean up after a killed one."""
    note = workspace / ".run.txt"
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace / ".run.lock")
        lock.acquire(blocking=False)
        # The system releases the lock of a killed process, but its temporary files remain.
        remove_parts(workspace)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        note.write_text(f"process {os.getpid()} on {platform.node()}, since {since}")
    except Timeout:
        by = note.read_text() if note.exists() else "it has just begun"
        raise refusal(
            f"Another run is using {workspace}: {by}. Wait until it ends, or "
            "give this one its own workspace by --params=workspace=..."
        ) from None
    except OSError as error:
        raise refusal(
            f"The workspace {workspace} can't be written to: {error}. Give another one by "
            "--params=workspace=..."
        ) from error
    return lock
