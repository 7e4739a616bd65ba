"""Model files: written so that the same values give the same bytes; read as untrusted."""

import sys
from pathlib import Path
from typing import Any

import torch

from lymphocytosis.errors import UserError, brief

# The largest model here, EfficientNet-B7 with its decoder, has some 300 MB.
MOST_BYTES = 8 * 1024**3


def read_model_file(path: Path) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU; no code of the file is run.

    Args:
        path: a file that torch saved.

    Returns:
        What was saved.

    Raises:
        UserError: the file is damaged, too large, or holds more than tensors and plain values.
    """
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


def write_model_file(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; the same values give the same bytes.

    Args:
        content: tensors and plain values, in dicts, lists and tuples.
        path: the file.
    """
    # Through a file object: by path, torch would write the file's own name into the archive.
    with path.open("wb") as file:
        torch.save(_one_of_each_text(content), file)


def _one_of_each_text(value: Any) -> Any:
    # Pickle writes a text once and then refers to it, if it is the same object: which texts are
    # depends on whether they come from a module or from a file.
    if isinstance(value, dict):
        return {_one_of_each_text(key): _one_of_each_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_one_of_each_text(item) for item in value)
    return sys.intern(value) if isinstance(value, str) else value
