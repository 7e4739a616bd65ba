"""Uvicorn's protocol, with a deadline for the headers of a request, and with problem documents."""

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lymphocytosis.serve.guard import HEADERS
from lymphocytosis.serve.problems import ProblemError


def protocol_of(seconds: float) -> type[H11Protocol]:
    """Make uvicorn's protocol close connections that send no whole header in time.

    Uvicorn has a limit only for the pause between two requests. What is no HTTP at all, which the
    app never sees, gets a problem document too.

    Args:
        seconds: from the connection, or the last answer, to the end of a request's headers.
    """

    class Protocol(H11Protocol):
        deadline: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.deadline is not None and self._busy():
                self.deadline.cancel()
                self.deadline = None

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._busy():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.deadline is not None:
                self.deadline.cancel()

        def send_400_response(self, msg: str) -> None:
            answer = ProblemError(400, "This is no valid HTTP request.").answer()
            answer.headers.update({**HEADERS, "Connection": "close"})
            start = h11.Response(status_code=400, headers=answer.raw_headers)
            for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _wait(self) -> None:
            self.deadline = self.loop.call_later(seconds, self.transport.close)

        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return Protocol
