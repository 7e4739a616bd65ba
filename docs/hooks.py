"""What the site is made of beside its pages: README, parameters, docstrings, formulas as MathML."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from lymphocytosis.parameters import Parameters

if TYPE_CHECKING:  # the tables are tested without the site's libraries
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[1]
# Pages of the repository that lie outside docs/, by their place in the site.
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
}
Values = dict[str, Any]
PACKAGE = PROJECT / "src/lymphocytosis"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the API's pages in the menu: one for each room, and one for single modules."""
    (api,) = (entry for entry in config.nav if "API" in entry)
    api["API"] = [api["API"], *(f"api/{room}.md" for room in _rooms()), "api/modules.md"]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    from mkdocs.structure.files import File

    for place, source in OUTSIDE.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    for room in _rooms():
        # The room's own name is the title; its modules are the headings.
        text = f"# {room}\n\n::: lymphocytosis.{room}\n    options: {{show_root_heading: false}}\n"
        files.append(File.generated(config, f"api/{room}.md", content=text))
    modules = sorted(path.stem for path in PACKAGE.glob("[!_]*.py"))
    text = "# Single modules\n\n" + "".join(f"::: lymphocytosis.{name}\n\n" for name in modules)
    files.append(File.generated(config, "api/modules.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's pages, and put tables where a comment asks for them."""
    source = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = re.sub(
        r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)",
        lambda link: _link(source, *link.groups()),
        markdown,
    )
    return re.sub(r"<!-- parameters -->", lambda _: parameter_tables(), markdown)


def on_page_content(html_text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, which browsers draw without a script or a font of ours."""
    from latex2mathml.converter import convert

    return re.sub(
        r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>',
        lambda formula: convert(
            html.unescape(formula[2]).strip(),
            display="inline" if formula[1] == "span" else "block",
        ),
        html_text,
        flags=re.DOTALL,
    )


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Name the theme's search for screen readers; it needs nothing from the network."""
    from mkdocs.utils import get_relative_url

    return _without_network(output, get_relative_url("iframe-worker.js", page.url)).replace(
        'role="dialog"', 'role="dialog" aria-label="Search"', 1
    )


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """Do the same with the page that says that there is none."""
    return _without_network(output, "/iframe-worker.js")


def _without_network(output: str, worker: str) -> str:
    output = output.replace("https://unpkg.com/iframe-worker/shim", worker)
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:[^"]+)"', output)
    if loaded:
        raise ValueError(f"a page would load from the network: {', '.join(loaded)}")
    return output


def parameter_tables() -> str:
    """Write every parameter's key, default, allowed values and meaning, a table for each block."""
    base, best = (
        yaml.safe_load((PROJECT / f"conf/{env}/parameters.yml").read_text(encoding="utf-8"))
        for env in ("base", "best")
    )
    # Paths are given in the globals, which parameters.yml only names.
    base |= yaml.safe_load((PROJECT / "conf/base/globals.yml").read_text(encoding="utf-8"))
    return "\n".join(_tables("", Parameters, base, best))


def _tables(prefix: str, model: type[BaseModel], base: Values, best: Values) -> Iterator[str]:
    properties = model.model_json_schema()["properties"]
    blocks = {
        name: field.annotation
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    yield f"## `{prefix.removesuffix('.')}`\n" if prefix else "## Places, seed and views\n"
    yield f"{model.__doc__}\n" if prefix else ""
    yield "| parameter | default | allowed | meaning |\n|---|---|---|---|"
    for name, schema in properties.items():
        if name in blocks:
            continue
        default = f"`{_shown(base[name])}`"
        if name in best:
            default += f"; best recipe: `{_shown(best[name])}`"
        yield f"| `{prefix}{name}` | {default} | {_allowed(schema)} | {schema['description']} |"
    yield ""
    for name, block in blocks.items():
        yield from _tables(f"{prefix}{name}.", block, base[name], best.get(name, {}))


def _shown(value: Any) -> str:
    return json.dumps(value, default=str).replace('"', "")


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"a list of: {_allowed(schema['items'])}"
    named = {"null": "`null`", "boolean": "`true`, `false`", "string": "text"}
    if schema["type"] in named:
        return "a date, `YYYY-MM-DD`" if schema.get("format") == "date" else named[schema["type"]]
    limits = {
        "minimum": "at least {}", "exclusiveMinimum": "above {}",
        "maximum": "at most {}", "exclusiveMaximum": "below {}",
    }  # fmt: skip
    said = [form.format(f"{schema[key]:,.15g}") for key, form in limits.items() if key in schema]
    return ", ".join([schema["type"], *said])


def _link(source: str, picture: str, text: str, path: str, anchor: str | None) -> str:
    """Point a link of a page of the repository at a page of the site, if there is one."""
    target = os.path.normpath(Path(source).parent / path)
    place = next((place for place, page in OUTSIDE.items() if page == target), None)
    if place is None and not target.startswith("docs/"):
        return text
    return f"{picture}[{text}]({place or os.path.relpath(target, 'docs')}{anchor or ''})"


def _rooms() -> list[str]:
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
