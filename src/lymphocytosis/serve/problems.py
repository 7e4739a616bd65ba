"""Refusals as problem details (RFC 9457): what happened, and what the sender can do."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse


class ProblemError(Exception):
    """A request that gets no diagnosis.

    Attributes:
        status: the HTTP status.
        detail: what happened and what to do, in one or two sentences.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Make the error."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def answer(self) -> JSONResponse:
        """Write the problem as an answer.

        Returns:
            An answer of the type `application/problem+json`.
        """
        content = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return JSONResponse(
            content, self.status, self.headers, media_type="application/problem+json"
        )
