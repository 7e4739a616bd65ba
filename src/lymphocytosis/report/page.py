"""The report as one HTML page, which asks nothing of any network."""

import base64
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

_FOLDER = Path(__file__).parent
_SIZE = "0.000 MB"  # stands for the page's size until that is known


def write_page(contents: Mapping[str, Any]) -> str:
    """Fill the templates.

    Args:
        contents: as `report_on_cohort` or `report_on_new_patients` returns them.

    Returns:
        HTML. The same contents give the same page.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    # They are ours, and are neither escaped nor allowed by anything but their digests.
    inline = {name: (_FOLDER / f"page.{name}").read_text(encoding="utf-8") for name in _INLINE}
    page = environment.get_template("page.html.jinja").render(
        **contents,
        inline={name: Markup(text) for name, text in inline.items()},  # noqa: S704
        digests={name: _digest(text) for name, text in inline.items()},
        page_size=_SIZE,
    )
    return page.replace(_SIZE, f"{len(page.encode()) / 1e6:.1f} MB", 1)


_INLINE = ("css", "js")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def write_excuse(reason: str) -> str:
    """Write a page in the report's place, where it could not be made.

    Args:
        reason: why.

    Returns:
        HTML.
    """
    environment = Environment(autoescape=True)
    page = environment.from_string(
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        "<title>No report</title></head>\n<body><h1>No report</h1>\n"
        "<p>The report could not be made: {{ reason }}</p>\n"
        "<p>Everything else of the run is saved.</p></body></html>\n"
    )
    return page.render(reason=reason)
