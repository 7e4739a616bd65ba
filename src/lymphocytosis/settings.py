"""Kedro's settings of this project."""

import sys
from importlib.util import find_spec
from pathlib import Path

import click
import yaml  # type: ignore[import-untyped]
from kedro.framework.cli.utils import KedroCliError

from lymphocytosis.hooks.manifest import ManifestHooks
from lymphocytosis.hooks.options import Session
from lymphocytosis.hooks.project import ProjectHooks
from lymphocytosis.hooks.timings import TIMINGS

# Before Kedro reads its options: they would end in YAML's traceback.
try:
    "".join([*sys.argv, str(Path.cwd())]).encode("utf-8")
except UnicodeEncodeError:
    sys.exit(
        "Error: the command line or this folder's path holds letters that this Python can't read "
        f"(it takes them for {sys.getfilesystemencoding()}). Set PYTHONUTF8=1, or rename what is "
        "not in UTF-8."
    )

# Kedro's own shows the exception in progress, and with Click 8.5 there is none: what is wrong with,
# say, --load-versions=cells would not be told.
KedroCliError.show = click.ClickException.show  # type: ignore[method-assign]

# PyYAML's reader in C, where there is one: OmegaConf makes its own from this class, and in Python,
# reading the catalog takes a tenth of a second.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# kedro-mlflow brings the configuration, and hooks/tracking.py logs: see there.
TRACKED = find_spec("kedro_mlflow") is not None
if TRACKED:
    from lymphocytosis.hooks.quiet import keep_mlflow_quiet
    from lymphocytosis.hooks.tracking import TrackingHooks

    keep_mlflow_quiet()
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")
# The last ones are called first, and what they do at the end of a run comes before its summary.
HOOKS = (TIMINGS, ProjectHooks(), *([TrackingHooks()] if TRACKED else []), ManifestHooks())
SESSION_CLASS = Session
# An environment changes single values of a block and leaves the others.
CONFIG_LOADER_ARGS = {
    "config_patterns": {"mlflow": ["mlflow*"]},
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
