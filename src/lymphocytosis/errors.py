"""The one error that is meant for the person who runs the pipeline."""


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
