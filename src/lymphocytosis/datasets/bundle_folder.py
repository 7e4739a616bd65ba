"""A bundle's folder: a trained system, to be copied to other machines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from lymphocytosis.datasets.versioned_path import TextPreview
from lymphocytosis.errors import UserError

if TYPE_CHECKING:  # torch takes seconds: only a run with a bundle pays for it
    from lymphocytosis.system.bundle import Bundle

logger = logging.getLogger(__name__)

# A key in PEM form has some hundred bytes.
_MOST_OF_KEY = 16 * 1024


class BundleDataset(AbstractDataset["Bundle", "Bundle"]):
    """Reads and writes a bundle. It has no versions: its folder is what gets copied."""

    def __init__(
        self,
        *,
        filepath: str,
        signing_key: str | None = None,
        trusted_key: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Make the dataset.

        Args:
            filepath: the bundle's folder.
            signing_key: the file of the private key that signs what is saved.
            trusted_key: the file of the public key that must have signed what is loaded.
            metadata: for kedro-viz.
        """
        self._folder = Path(filepath)
        self._signing_key = signing_key
        self._trusted_key = trusted_key
        self.metadata = metadata

    def load(self) -> Bundle:
        """Read the bundle; see `read_bundle`."""
        from lymphocytosis.system.bundle import read_bundle

        return read_bundle(self._folder, _read_key("trusted_key", self._trusted_key))

    def save(self, data: Bundle) -> None:
        """Write the bundle; see `write_bundle`."""
        from lymphocytosis.system.bundle import write_bundle

        write_bundle(data, self._folder, _read_key("signing_key", self._signing_key))
        size = sum(file.stat().st_size for file in self._folder.iterdir())
        signed = "not signed" if self._signing_key is None else "signed"
        logger.info("the bundle is %s: %.1f MB, %s", self._folder, size / 1e6, signed)

    def check(self) -> None:
        """Refuse, before any work, a folder or a key with which `save` would fail."""
        from lymphocytosis.system.bundle import check_writable

        check_writable(self._folder, _read_key("signing_key", self._signing_key))

    def preview(self) -> TextPreview:
        """Return the model card, for kedro-viz."""
        return TextPreview((self._folder / "README.md").read_text("utf-8"))

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


def _read_key(parameter: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST_OF_KEY)
    except OSError as error:
        raise UserError(f"{parameter}: {path} can't be read ({error.strerror}).") from error
