"""Models on disk: a pickled state dict together with the plain values that rebuild the model."""

from pathlib import Path
from typing import Any

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.datasets.whole_files import appearing_whole
from lymphocytosis.errors import UserError, brief

# The largest model here, EfficientNet-B7 with its decoder, has some 300 MB.
MOST_BYTES = 8 * 1024**3


class StateDictDataset(VersionedPathDataset[dict[str, Any], dict[str, Any]]):
    """Saves and loads a dict of tensors and plain values by torch.

    A model file is untrusted: it is loaded with `weights_only=True`, which runs no code of its.
    """

    def load(self) -> dict[str, Any]:
        """Read the model's values onto the CPU.

        Returns:
            What was saved.

        Raises:
            UserError: the file is damaged, too large, or holds more than tensors and plain values.
        """
        import torch  # 3 s: only a run that loads a model pays for it

        path = Path(self._get_load_path())
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES} bytes: no model of this project.")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # A damaged pickle makes torch raise whatever its reader stumbles over: KeyError too.
            raise UserError(
                f"{path} can't be loaded as a model: it is damaged, or holds more than tensors and "
                f"plain values, which is refused. ({brief(error)})"
            ) from error
        if not isinstance(content, dict):
            raise UserError(f"{path} holds a {type(content).__name__}, not a model's state dict.")
        return content

    def save(self, data: dict[str, Any]) -> None:
        """Write the model's values; the same values give the same bytes.

        Args:
            data: tensors and plain values, in dicts, lists and tuples.
        """
        import torch

        # Through a file object: by path, torch would write the temporary name into the archive.
        with appearing_whole(Path(self._get_save_path())) as path, path.open("wb") as file:
            torch.save(data, file)
