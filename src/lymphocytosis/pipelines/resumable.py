"""Long nodes save what they have finished, and resume from it after a kill."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from lymphocytosis.progress import unfinished


def resumable(function: Callable[..., Any], entry: str) -> Callable[..., Any]:
    """Let a node save the finished parts of an entry in the workspace.

    Args:
        function: the node's; its last argument is a Progress.
        entry: what the node makes.

    Returns:
        The function with the workspace, `params:workspace`, in place of the progress.
    """

    @wraps(function)
    def in_workspace(*given: Any) -> Any:
        *inputs, workspace = given
        return function(*inputs, unfinished(workspace, entry))

    return in_workspace
