import errno
import os
import re
from types import SimpleNamespace

import click
import pytest
from kedro.io import DataCatalog, DatasetError

from lymphocytosis.hooks.project import ProjectHooks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_reported_in_plain_words(number):
    hooks = ProjectHooks()
    hooks.lock = SimpleNamespace(release=lambda: None)
    try:
        try:
            raise OSError(number, os.strerror(number), "large.parquet")
        except OSError as error:
            raise DatasetError("Failed while saving data") from error
    except DatasetError as error:
        told = f"{os.strerror(number)}.*large.parquet.*same command resumes"
        with pytest.raises(click.ClickException, match=told):
            hooks.on_pipeline_error(error, DataCatalog())


def test_a_file_that_may_not_be_read_is_reported_in_plain_words():
    hooks = ProjectHooks()
    hooks.lock = SimpleNamespace(release=lambda: None)
    with pytest.raises(click.ClickException) as told:
        hooks.on_pipeline_error(
            PermissionError(errno.EACCES, "Permission denied", "cells.parquet"), DataCatalog()
        )
    assert re.search(r"may not read or write a file: .*denied: 'cells.parquet'", str(told.value))
    assert "disk" not in str(told.value)


def test_another_error_is_left_as_it_is():
    hooks = ProjectHooks()
    hooks.lock = SimpleNamespace(release=lambda: None)
    hooks.on_pipeline_error(FileNotFoundError(errno.ENOENT, "none", "x"), DataCatalog())
