"""Errors that a user can fix are shown as a plain message, never a traceback."""

import errno

import click
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.validation.exceptions import DataValidationError

from lymphocytosis.errors import UserError, causes, listed
from lymphocytosis.terminal import harmless

# The disk is full or read-only, or the file is too large for it.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_RIGHTS = {errno.EACCES, errno.EPERM}


def refusal(message: str) -> click.ClickException:
    """An error that Kedro's command line shows as a message, without a traceback."""
    return click.ClickException(harmless(message))


def plainly(error: Exception, catalog: DataCatalog) -> str | None:
    """The message of an error that the user can fix; None for other errors."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, DataValidationError):
            return _refused_table(cause, catalog)
        if isinstance(cause, OSError) and cause.errno in _DISK:
            return (
                f"The run can't write to the disk: {cause}. What was saved before "
                "is whole. Make room, or give another workspace by --params=workspace=...; "
                "in the same one, the same command resumes after what is finished."
            )
        if isinstance(cause, OSError) and cause.errno in _RIGHTS:
            return (
                f"The run may not read or write a file: {cause}. What was saved before is whole. "
                "Give it the permissions it needs, or choose other folders by "
                "--params=cohort_dir=...,workspace=..."
            )
    return None


def _refused_table(error: DataValidationError, catalog: DataCatalog) -> str:
    """Describe the refused table, with each fault by row and column; Kedro gives no rows."""
    from pandera.errors import SchemaErrors

    from lymphocytosis.schemas import faults_of

    name = error.dataset_name or ""
    if not isinstance(error.__cause__, SchemaErrors):
        return str(error)
    faults = listed(faults_of(error.__cause__))
    table = catalog.get(name)
    if error.mode == "save" or not isinstance(table, AbstractVersionedDataset):
        return f"The table {name} was not saved because it is not valid: {faults}"
    return (
        f"The table {name} ({table._get_load_path()}) can't be used: {faults}\n"
        "If it was edited, remove the folder of this version to use the one before it, or run "
        "the pipeline that makes it again."
    )
