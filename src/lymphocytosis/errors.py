"""The one error that is meant for the person who runs the pipeline."""

from collections.abc import Sequence

_FAULTS_SHOWN = 20


class UserError(Exception):
    """Something the user can put right: a file, a table, a parameter.

    Its message says what happened, where, what was expected and what to do. `kedro run` shows the
    message alone, without a traceback.
    """


def brief(error: Exception) -> str:
    """Put a library's error into one line, to be quoted in a message of ours.

    Args:
        error: the library's error; its message may be empty or long.

    Returns:
        Its kind and the first line of its message.
    """
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")


def listed(faults: Sequence[str]) -> str:
    """Put faults below one another, to end a message with.

    Args:
        faults: one text each.

    Returns:
        Their number, and a line for each of the first 20.
    """
    shown = "\n".join(f"  - {fault}" for fault in faults[:_FAULTS_SHOWN])
    hidden = len(faults) - _FAULTS_SHOWN
    more = f"\n  ... and {hidden} more" if hidden > 0 else ""
    return f"{len(faults)} fault(s).\n{shown}{more}"
