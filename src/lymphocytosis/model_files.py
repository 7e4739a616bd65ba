"""Model files: written so that the same values give the same bytes; read as untrusted."""

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from lymphocytosis.errors import UserError, brief

# Raised by a file whose values are not those of the model it names.
MISFITS = (KeyError, TypeError, ValueError, AttributeError, RuntimeError)
# The largest model here, EfficientNet-B7 with its decoder, has about 300 MB.
MOST_BYTES = 8 * 1024**3


def read_model_file(
    path: Path, old_form: bool = False, content: bytes | None = None
) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU; no code of the file is run.

    Args:
        path: a file that torch saved.
        old_form: accept torch's format from before 1.6 too, as published weights use it. It has no
            checksums, so damage to its values can't be seen.
        content: the file's bytes, where they have been read before.

    Returns:
        What was saved.

    Raises:
        UserError: the file is damaged, too large, or holds more than tensors and plain values.
    """
    size = path.stat().st_size if content is None else len(content)
    if size > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES} bytes: no model of this project.")
    try:
        with path.open("rb") if content is None else BytesIO(content) as file:
            # Torch itself distinguishes the two formats by the first bytes.
            if file.read(4) == b"PK\x03\x04" or not old_form:
                _check_archive(file, size)
            file.seek(0)
            model = torch.load(file, map_location="cpu", weights_only=True)
        for name, tensor in _tensors(model):
            _check_stored(name, tensor)
    except PermissionError:
        raise  # that file is not damaged
    except Exception as error:
        # A damaged pickle makes torch raise whatever its reader stumbles over: KeyError too.
        raise UserError(
            f"{path} can't be loaded as a model: it is damaged, or holds more than tensors and "
            f"plain values, which is refused. ({brief(error)})"
        ) from error
    if not isinstance(model, dict):
        raise UserError(f"{path} holds a {type(model).__name__}, not a model's state dict.")
    return model


def not_finite(content: Any) -> str | None:
    """Look for a tensor with a value that is not finite.

    Args:
        content: tensors and plain values, in dicts, lists and tuples.

    Returns:
        The name of such a tensor, or None.
    """
    for name, tensor in _tensors(content):
        if not torch.isfinite(tensor).all():
            return name
    return None


def fill(model: nn.Module, state: Any, assign: bool = False) -> None:
    """Give a model the weights of a file.

    Args:
        model: as it was built by the file's parameters.
        state: what the file holds as the model's state dict.
        assign: take the file's tensors themselves; for a model on torch's meta device, which takes
            no memory for sizes that the file only claims.

    Raises:
        ValueError: the weights are not the model's, or are not finite.
    """
    wanted = model.state_dict()
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError("the weights are no state dict (names to tensors)")
    if odd := sorted(map(str, wanted.keys() ^ state.keys())):
        raise ValueError(f"{len(odd)} weights are missing or unknown, the first: {odd[0]}")
    for name, value in wanted.items():
        given = state[name]
        if (given.shape, given.dtype) != (value.shape, value.dtype):
            raise ValueError(
                f"the weight {name} is {given.dtype} {tuple(given.shape)}, and the model's is "
                f"{value.dtype} {tuple(value.shape)}"
            )
        if not torch.isfinite(given).all():
            raise ValueError(f"the weight {name} has values that are not finite")
    model.load_state_dict(state, assign=assign)


def write_model_file(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; the same values give the same bytes.

    Args:
        content: tensors and plain values, in dicts, lists and tuples.
        path: the file.
    """
    # Through a file object: by path, torch would write the file's own name into the archive.
    with path.open("wb") as file:
        torch.save(_one_of_each_text(content), file)


def _check_archive(file: IO[bytes], size: int) -> None:
    """Refuse an archive that torch did not write in this form, or that has changed since.

    Torch checks no checksums, and would inflate a compressed entry to whatever size it claims.
    """
    with ZipFile(file) as archive:
        entries = archive.infolist()
        if packed := [entry.filename for entry in entries if entry.compress_type != ZIP_STORED]:
            raise BadZipFile(f"its entry {packed[0]} is compressed")
        # Otherwise entries could share their bytes.
        if sum(entry.file_size for entry in entries) > size:
            raise BadZipFile("its entries claim more bytes than the file has")
        # Read piece by piece, at about 2 GB a second.
        if damaged := archive.testzip():
            raise BadZipFile(f"its entry {damaged} has another checksum than when it was written")


def _check_stored(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not stored value by value, and so claims any size at no cost."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.untyped_storage().nbytes() < tensor.nbytes:
        raise ValueError(f"the tensor {name} claims more values than are stored")


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Find each tensor, and the last name on the way to it."""
    # A file may nest its values a thousandfold, share them at every level, or lead in a circle.
    waiting: list[tuple[str, Any]] = [("", content)]
    seen = set()
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict):
            waiting += [(k if isinstance(k, str) else name, item) for k, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, item) for item in value]


def _one_of_each_text(value: Any) -> Any:
    # Pickle writes a text once and then refers to it, if it is the same object: which texts are
    # depends on whether they come from a module or from a file.
    if isinstance(value, dict):
        return {_one_of_each_text(key): _one_of_each_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_one_of_each_text(item) for item in value)
    return sys.intern(value) if isinstance(value, str) else value
