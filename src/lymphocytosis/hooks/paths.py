"""The only place where paths among the parameters are made absolute."""

import os
from pathlib import Path
from typing import Any

from lymphocytosis.errors import UserError
from lymphocytosis.hooks.mirror import mirror_of_url
from lymphocytosis.remote import is_url

PATHS = ("cohort_dir", "workspace", "runs_dir", "bundle", "signing_key", "trusted_key")


def make_paths_absolute(raw: dict[str, Any], project: Path) -> None:
    """Make every path among the parameters absolute, relative to the project's folder.

    Args:
        raw: the merged content of parameters.yml and `--params`; its paths are replaced.
        project: the project's folder.

    Raises:
        UserError: a path can't be used; see `absolute_path`.
    """
    for name in raw.keys() & PATHS:
        raw[name] = absolute_path(name, raw[name], project)
    if raw.get("bundle") is None and isinstance(raw.get("workspace"), str):
        raw["bundle"] = str(Path(raw["workspace"], "06_models", "bundle"))
    encoder = raw.get("encoder")
    if isinstance(encoder, dict) and _names_a_file(encoder.get("weights")):
        encoder["weights"] = absolute_path("encoder.weights", encoder["weights"], project)


def _names_a_file(weights: Any) -> bool:
    return isinstance(weights, str) and ("/" in weights or bool(Path(weights).suffix))


def absolute_path(parameter: str, value: Any, project: Path) -> Any:
    """Make a path absolute, relative to the project's folder.

    Args:
        parameter: its name, for the message.
        value: as given; an integer is taken as a name, other types are left to the checks.
        project: the project's folder.

    Returns:
        The absolute path as text, or a value of another type unchanged. Of a workspace's URL, the
        folder that stands for it; a cohort's URL as it is.

    Raises:
        UserError: the path is a URL where none may be, or a decimal number, or no dataset could
            use it.
    """
    if isinstance(value, float):
        raise UserError(f"{parameter}: {value} is read as a number. For a path, write ./{value}")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # YAML reads a folder such as 2021 as a number
    if not isinstance(value, str) or not value:
        return value
    value = value.removeprefix("file://")
    if is_url(value) and parameter == "cohort_dir":
        return value.rstrip("/")
    if is_url(value) and parameter == "workspace":
        return str(mirror_of_url(value.rstrip("/")).folder)
    if is_url(value):
        raise UserError(
            f"{parameter}: {value} is a URL, and only cohort_dir and workspace may be one. "
            "Copy it to a folder, or mount it as one, and give that folder."
        )
    try:
        # Otherwise as text: pathlib would drop the ./ of a folder named ~.
        path = str(project / (Path(value).expanduser() if value.startswith("~") else value))
    except RuntimeError:
        raise UserError(
            f"{parameter}: the home folder meant by {value} is not known. For a folder of this "
            f"name in the project, write ./{value}"
        ) from None
    if odd := set("{}\0") & set(path):
        raise UserError(
            f"{parameter}: {path} contains {' and '.join(map(repr, sorted(odd)))}, and Kedro's "
            "catalog can't use such a path. Rename the folder or give another one."
        )
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise UserError(
            f"{parameter}: {path!a} is not in UTF-8, or this Python reads file names as "
            "something else. Set PYTHONUTF8=1; if that does not help, rename the folder."
        ) from None
    return path
