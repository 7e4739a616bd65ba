"""The names of timm's models.

These checks delay every run, and importing timm takes seconds. So timm is imported only for a name
that is not found in its source.
"""

import difflib
from importlib.metadata import distribution
from pathlib import Path

from lymphocytosis.errors import UserError


def check_name(name: str) -> None:
    """Refuse a name that timm doesn't have.

    Args:
        name: `encoder.name`; a tag after a dot selects one of a model's weights.

    Raises:
        UserError: timm has no such model; the message gives the nearest names.
    """
    if family_of(name):
        return
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"encoder.name: timm {timm.__version__} has no model {name!r}.{hint}")


def family_of(name: str) -> str | None:
    """Look for a model in timm's source.

    Args:
        name: `encoder.name`; a tag after a dot selects one of a model's weights.

    Returns:
        The module of `timm.models` that defines it, or None.
    """
    folder = Path(str(distribution("timm").locate_file("timm/models")))
    definition = f"@register_model\ndef {name.split('.')[0]}("
    for file in folder.glob("*.py"):
        if definition in file.read_text(encoding="utf-8"):
            return file.stem
    return None
