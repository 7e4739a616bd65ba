"""The OpenAPI document as a page that needs no script and nothing from outside."""

from html import escape
from typing import Any


def as_page(document: dict[str, Any]) -> str:
    """Write an OpenAPI document as HTML.

    Args:
        document: as FastAPI makes it.

    Returns:
        The page; each operation with its fields and answers.
    """
    info = document["info"]
    shapes = "".join(
        f"<section><h2><code>{escape(name)}</code></h2>{_properties(schema)}</section>"
        for name, schema in document["components"]["schemas"].items()
    )
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}: the API</title>"
        '<link rel="icon" href="/page/icon.svg"><link rel="stylesheet" href="/page/page.css">'
        f"</head><body><main><h1>{escape(info['title'])} {escape(info['version'])}: the API</h1>"
        f"<p>{escape(info['description'])} <a href='/openapi.json'>The OpenAPI document</a>; "
        "<a href='/'>the page</a>.</p>"
        "<pre>curl --form pictures=@patient.zip --form age=71 --form count=12.5 "
        "http://127.0.0.1:8000/v1/predict</pre>"
        f"{operations}{shapes}</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    fields = "".join(
        f"<h3>Fields ({escape(kind)})</h3>{_properties(content['schema'])}"
        for kind, content in body.items()
    )
    statuses = "".join(
        f"<tr><td>{status}</td><td>{escape(said['description'])}</td></tr>"
        for status, said in operation["responses"].items()
    )
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation['summary'])}</p>{fields}"
        f"<h3>Answer</h3><p><code>{escape(_kind(answer))}</code></p>"
        f"<h3>Statuses</h3><table><tbody>{statuses}</tbody></table></section>"
    )


def _properties(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<p>{escape(schema.get('description', ''))}</p><table><tbody>{rows}</tbody></table>"


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(map(_kind, field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    return str(field.get("type", "any"))
