"""Reading a model file, which is untrusted wherever it comes from."""

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
