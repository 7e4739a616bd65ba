"""Models on disk: a pickled state dict together with the plain values that rebuild the model."""

from pathlib import Path
from typing import Any

from lymphocytosis.datasets.versioned_path import VersionedPathDataset
from lymphocytosis.errors import UserError
from lymphocytosis.whole_files import appearing_whole


class StateDictDataset(VersionedPathDataset[dict[str, Any], dict[str, Any]]):
    """Saves and loads a dict of tensors and plain values by torch.

    A model file is untrusted: it is loaded with `weights_only=True`, which runs none of its code.
    """

    def load(self) -> dict[str, Any]:
        """Read the model's values onto the CPU.

        Returns:
            What was saved.

        Raises:
            UserError: the file is damaged, too large, or holds more than tensors and plain values.
        """
        # Torch takes 3 s: only a run that loads a model pays for it.
        from lymphocytosis.model_files import read_model_file

        return read_model_file(Path(self._get_load_path()))

    def save(self, data: dict[str, Any]) -> None:
        """Write the model's values; the same values give the same bytes.

        Args:
            data: tensors and plain values, in dicts, lists and tuples.

        Raises:
            UserError: a value of a tensor is not finite.
        """
        from lymphocytosis.model_files import not_finite, write_model_file

        final = Path(self._get_save_path())
        if (name := not_finite(data)) is not None:
            raise UserError(
                f"{final} is not saved: the weight {name} has values that are not finite. Were "
                "the initial weights finite? Else lower the learning rate of what trained it."
            )
        with appearing_whole(final) as path:
            write_model_file(data, path)
