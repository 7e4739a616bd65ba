"""Files behind a URL: an object store, or any other filesystem that fsspec knows."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lymphocytosis.errors import UserError, brief

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def is_url(path: str) -> bool:
    """Whether a path is a URL, such as s3://bucket/cohort."""
    return re.match(r"[A-Za-z][\w+.-]*://", path) is not None


def open_filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Find the filesystem of a URL; whether it can be reached shows when it is used.

    Args:
        url: of a folder or file.

    Returns:
        The filesystem, which keeps no listings, and the path in it.

    Raises:
        UserError: no such filesystem is known, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{url} can't be used: {error}. For s3://, install this project's extra s3; for "
            "others, the package that brings fsspec their filesystem."
        ) from error
    return filesystem, path.rstrip("/")


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn errors of a filesystem's library into messages.

    Args:
        url: what the body reads or writes.

    Raises:
        UserError: it can't be reached, read or written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each library has its own
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # of the disk here
        raise UserError(
            f"{url} can't be reached, read or written: {brief(error)}. Check the address, the "
            "network and the credentials (docs/operations.md). What was saved before is whole."
        ) from error
