"""The one error that is meant for the person who runs the pipeline."""


class UserError(Exception):
    """Something the user can put right: a file, a table, a parameter.

    Its message says what happened, where, what was expected and what to do. `kedro run` shows the
    message alone, without a traceback.
    """
