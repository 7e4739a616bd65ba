"""What has to be said before mlflow is imported, if it is installed."""

import logging
import os


def keep_mlflow_quiet() -> None:
    """Let mlflow send nothing about its use, and kedro-mlflow warn of nothing of its own.

    Kedro imports its plugins for every command, before it reads this project's settings; so this is
    an entry point of its own, and takes no time where mlflow is missing.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default mlflow tries for minutes to reach a server that is away.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # On import; mlflow sets the filters of warnings itself.
    logging.getLogger("py.warnings").addFilter(
        lambda record: "Add type hints to the `predict` method" not in record.getMessage()
    )
    logging.getLogger("mlflow.store").setLevel(logging.WARNING)  # it tells of each table it makes
