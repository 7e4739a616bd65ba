"""Which code this is: the package's version, and the commit that it was checked out from."""

import os
import subprocess
from pathlib import Path

from lymphocytosis import __version__

# What decides what a run computes. Parameters are recorded for themselves.
_CODE = ("src", "pyproject.toml", "conf/base/catalog.yml")


def code_version(project: Path = Path(__file__).parents[2]) -> dict[str, str | bool | None]:
    """Describe the code that is running.

    Args:
        project: the folder of its checkout; folders above it are not asked.

    Returns:
        `version`; `commit`, or None outside a checkout or without git; `changed`: whether the code
        differs from that commit, None where there is none.
    """
    told: dict[str, str | bool | None]
    told = {"version": __version__, "commit": None, "changed": None}
    if not (project / ".git").exists():
        return told
    # In a git hook, these variables name another repository.
    here = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "status", "--porcelain=v2", "--branch", "--", *_CODE]
    try:
        lines = subprocess.run(  # noqa: S603
            command,
            cwd=project,
            env={**here, "GIT_OPTIONAL_LOCKS": "0"},  # it writes nothing
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.splitlines()
    except (OSError, UnicodeError, subprocess.SubprocessError):
        return told
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    if commit.isalnum():  # "(initial)": nothing is committed yet
        told |= {"commit": commit, "changed": any(not line.startswith("#") for line in lines)}
    return told
