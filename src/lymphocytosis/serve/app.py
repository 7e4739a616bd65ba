"""The service: one patient's pictures in, row and cells out; the model's card; the page."""

import base64
import io
import math
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.decision.cells import choose_cells
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.decode import decode_picture, greatest_value
from lymphocytosis.serve.description import as_page
from lymphocytosis.serve.guard import Doors, Guard
from lymphocytosis.serve.limits import Limits
from lymphocytosis.serve.problems import ProblemError
from lymphocytosis.serve.turns import Turns
from lymphocytosis.serve.upload import Upload, read_upload
from lymphocytosis.system.diagnosis import ReadySystem

PAGE = Path(__file__).parent / "page"
_SHOWN = 6  # cells of each kind
_SHOWN_SIDE = 160  # pixels


class Cell(BaseModel):
    """A picture, and what it did."""

    image_id: str = Field(description="The file's name.")
    status: str = Field(description="taken, converted or left_out")
    reason: str = Field(description="What was converted, or why it was left out.")
    contribution: float | None = Field(description="Its share of the mean logit.")
    distance: float | None = Field(description="From the patient's mean; small: typical.")
    odd: bool | None = Field(description="Unlike nearly all cells of the training patients.")


class ShownCell(BaseModel):
    """A cell with its picture, as the model saw it."""

    image_id: str
    contribution: float
    odd: bool
    picture: str = Field(description="A data URL, JPEG.")


class ShownCells(BaseModel):
    """The cells that matter most."""

    toward_tumoral: list[ShownCell] = Field(description="Contributions above 0, greatest first.")
    toward_reactive: list[ShownCell] = Field(description="Contributions below 0, lowest first.")
    typical: list[ShownCell] = Field(description="The nearest to the patient's mean.")


class Answer(BaseModel):
    """A diagnosis."""

    row: dict[str, Any] = Field(description="As a row of `diagnoses` (docs/new_patient.md).")
    cells: list[Cell] = Field(description="One for each picture.")
    shown: ShownCells | None = Field(description="Where `show` asked for them.")


class Model(BaseModel):
    """What is served."""

    fingerprint: str = Field(description="Of the bundle: other bits, another fingerprint.")
    version: str = Field(description="Of this package.")
    card: str = Field(description="In Markdown.")
    facts: dict[str, Any] = Field(description="As in the bundle's manifest.json.")
    limits: dict[str, float] = Field(description="Of a request.")


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str = Field(description="about:blank")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What happened, and what to do.")


_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["pictures"],
                "properties": {
                    "pictures": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "One patient's pictures (JPEG, PNG, BMP or TIFF), or one "
                        "zip of them.",
                    },
                    "age": {"type": "string", "description": "In years; may be left out."},
                    "count": {
                        "type": "string",
                        "description": "Lymphocytes in 10^9 per litre; may be left out.",
                    },
                    "show": {
                        "type": "string",
                        "description": "true: pictures of the cells that matter most come along.",
                    },
                },
            }
        }
    },
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The body is damaged.",
        401: "The token is missing or wrong.",
        408: "The body arrived too slowly.",
        413: "Too large, or too many pictures.",
        415: "No multipart/form-data.",
        422: "Not one patient's readable pictures, or a value that can't be.",
        429: "Too many patients at once; Retry-After says when to try again.",
        503: "The diagnosis took too long.",
    }.items()
}


def create_app(system: ReadySystem, limits: Limits, doors: Doors) -> ASGIApp:
    """Make the service.

    Args:
        system: a bundle, ready to run.
        limits: of a request.
        doors: who may ask.

    Returns:
        An ASGI app.
    """
    app = FastAPI(
        title="lymphocytosis",
        version=version("lymphocytosis"),
        description="Reactive or tumoral lymphocytosis, from one patient's pictures of cells.",
        # Traces would carry names, in paths and errors, to wherever the process is set up to.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            ProblemError: _answer_problem,
            HTTPException: _answer_http,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_failure,
        },
    )
    turns = Turns(limits)

    @app.post(
        "/v1/predict",
        summary="Diagnose one patient",
        response_model=Answer,
        response_description="The diagnosis",
        responses=_REFUSALS,
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(request: Request) -> Response:
        with turns.place():
            upload = await read_upload(request, limits)
            return await turns.run(request, partial(_diagnose, system, upload))

    @app.get(
        "/v1/model",
        summary="The model's card and facts",
        response_model=Model,
        response_description="Both",
    )
    def model() -> Response:
        described = {
            "fingerprint": system.fingerprint,
            "version": app.version,
            "card": system.card,
            "facts": system.facts,
            "limits": vars(limits),
        }
        return JSONResponse(_plain(described))

    @app.get("/health", summary="Whether the service is ready", response_description="It is")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(as_page(app.openapi()))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    files = {file.name: file for file in PAGE.iterdir()}

    @app.get("/page/{name}", include_in_schema=False)
    def page_file(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404)
        return FileResponse(files[name])

    paths = ["/v1/predict", "/v1/model", "/health", "/docs", "/openapi.json", "/"]
    return Guard(app, doors, limits, [*paths, *(f"/page/{name}" for name in files)])


def _diagnose(system: ReadySystem, upload: Upload, check: Callable[[], None]) -> Response:
    pictures = upload.pictures(check)
    try:
        diagnosis = system.diagnose(pictures, upload.age, upload.count, system.image)
    except UserError as error:
        raise ProblemError(422, str(error)) from None
    check()
    if not diagnosis.row["cell_count"]:
        name, reason = diagnosis.cells.iloc[0][["image_id", "reason"]]
        raise ProblemError(
            422,
            f"No picture could be taken of {len(pictures)} file(s); the first, {name}, {reason}.",
        )
    shown = _shown(system, pictures, diagnosis.cells) if upload.show else None
    cells = diagnosis.cells.to_dict(orient="records")
    return JSONResponse(_plain({"row": diagnosis.row, "cells": cells, "shown": shown}))


def _shown(
    system: ReadySystem, pictures: list[PictureFile], cells: pd.DataFrame
) -> dict[str, list[Any]]:
    """The cells that moved the decision most, and the most typical, with their pictures."""
    chosen = choose_cells(cells, _SHOWN)
    files = {file.image_id: file for file in pictures}
    # A camera's depth is told by all of a patient's pictures.
    greatest = cache(lambda: max(greatest_value(file.read(), file.path) for file in pictures))

    @cache
    def picture(image_id: str) -> str:
        file = files[image_id]
        pixels = decode_picture(file.read(), file.path, system.image, greatest).pixels
        return "" if pixels is None else _as_data(pixels)

    return {
        kind: rows.assign(picture=rows["image_id"].map(picture))[
            ["image_id", "contribution", "odd", "picture"]
        ].to_dict(orient="records")
        for kind, rows in chosen.items()
        if kind in ShownCells.model_fields
    }


def _as_data(pixels: np.ndarray[Any, Any]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _plain(value: Any) -> Any:
    """The same in types that JSON has; what is no number is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


async def _answer_problem(request: Request, error: ProblemError) -> Response:
    return error.answer()


async def _answer_http(request: Request, error: HTTPException) -> Response:
    detail = {
        404: "There is nothing here. /docs lists what there is.",
        405: "Another method is expected here; /docs says which.",
    }.get(error.status_code, str(error.detail))
    return ProblemError(error.status_code, detail, error.headers).answer()


async def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _answer_failure(request: Request, error: Exception) -> Response:
    return ProblemError(500, "The service failed; its log says where.").answer()
