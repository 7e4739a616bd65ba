"""Parameters are read and checked before anything else."""

from kedro.framework.context import KedroContext

from lymphocytosis.errors import UserError
from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import Parameters, check_parameters


def read_parameters(context: KedroContext) -> Parameters:
    """The run's parameters, checked; files that can't be read are refused, the catalog's too."""
    for name in ("parameters", "catalog"):
        try:
            raw = context.config_loader[name]
        except Exception as error:
            # Kedro, PyYAML and OmegaConf each have their own for a file they can't read.
            raise refusal(f"{name}.yml can't be read: {error}") from error
        # Kedro asks for it once more, and would read and resolve every file again.
        context.config_loader[name] = raw
    try:
        return check_parameters(context.config_loader["parameters"])
    except UserError as error:
        raise refusal(str(error)) from error
