"""Kedro's settings of this project."""

from lymphocytosis.hooks.options import Session
from lymphocytosis.hooks.project import ProjectHooks

HOOKS = (ProjectHooks(),)
SESSION_CLASS = Session
# An environment changes single values of a block and leaves the others.
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
