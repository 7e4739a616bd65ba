"""What stands before every request: who may ask, what every answer says, what is logged."""

import asyncio
import hmac
import ipaddress
import logging
import os
import time
import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lymphocytosis.errors import UserError
from lymphocytosis.serve.limits import Limits
from lymphocytosis.serve.problems import ProblemError

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "LYMPHOCYTOSIS_TOKEN"  # noqa: S105
_SHORTEST_TOKEN = 16
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Nothing from elsewhere, nothing inline, in nobody's frame; thumbnails come as data.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
GUARDED = "/v1/"


@dataclass(frozen=True)
class Doors:
    """Who may ask.

    Attributes:
        hosts: names by which the service may be called, against DNS rebinding; None: any.
        token: what `Authorization: Bearer ...` must say; None: nothing is asked.
    """

    hosts: frozenset[str] | None
    token: str | None


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone.

    Args:
        host: as given to `--host`.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_doors(host: str, token_file: Path | None, more_hosts: Sequence[str]) -> Doors:
    """Decide who may ask.

    Args:
        host: the address to listen on.
        token_file: holds the token, which may also be in the variable `LYMPHOCYTOSIS_TOKEN`.
        more_hosts: names, besides this machine's own, by which the service may be called.

    Returns:
        The names and the token.

    Raises:
        UserError: other machines could reach the service, and there is no token; or it is short.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token_file is not None:
        token = read_file(token_file, "the token").decode("utf-8", "replace").strip()
    if token_file is not None or token:
        if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
            raise UserError(
                f"The token is no word of {_SHORTEST_TOKEN} or more ASCII characters. "
                "Make one: openssl rand -hex 32 > token"
            )
    elif not is_loopback(host):
        raise UserError(
            f"--host={host} lets other machines in, and there is no token. Give one by "
            f"--token-file=FILE or the variable {TOKEN_VARIABLE}; make one: openssl rand -hex 32"
        )
    if not is_loopback(host):
        return Doors(None, token)
    names = (*LOCAL_NAMES, host, *more_hosts)
    return Doors(frozenset(name.lower() for name in names), token or None)


def read_file(path: Path, what: str) -> bytes:
    """Read a file that the command line names.

    Args:
        path: of the file.
        what: it is, for the message.

    Returns:
        Its content.

    Raises:
        UserError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}, {what}, can't be read: {error}") from None


class Guard:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp, doors: Doors, limits: Limits, paths: Collection[str]) -> None:
        """Stand before an app.

        Args:
            app: the service.
            doors: who may ask.
            limits: how long a client may take to read an answer.
            paths: those that may be named in the log; others could hold a patient's name.
        """
        self._app = app
        self._doors = doors
        self._limits = limits
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, unread = time.monotonic(), 0, True

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if unread and _has_body(scope):
                    headers["Connection"] = "close"
                    await _drain(receive, self._limits.drain_seconds)
            async with asyncio.timeout(self._limits.pause_seconds):
                await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive_noting, send_guarded)
        except ProblemError as problem:
            await problem.answer()(scope, receive, send_guarded)
        except ClientDisconnect:
            status = 499  # in the log alone
        except Exception as error:
            # The message may name a file; the kind and the lines say enough.
            logger.error(
                "%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            )
            if not status:
                failure = ProblemError(500, "The service failed; its log says where.")
                await failure.answer()(scope, receive, send_guarded)
        path = scope["path"] if scope["path"] in self._paths else "(another path)"
        seconds = time.monotonic() - start
        logger.info("%s %s %d %.2f s", _method(scope), path, status, seconds)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = _host_in(f"//{headers.get('host', '')}")
        if self._doors.hosts is not None and host not in self._doors.hosts:
            raise ProblemError(
                421,
                "This service answers to "
                f"{', '.join(sorted(self._doors.hosts))} alone; --allow-host adds a name.",
            )
        # A page elsewhere may make a browser send a form to this machine; a link to here is fine.
        origin = headers.get("origin")
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site") or (
            origin is not None and _host_in(origin) != host
        )
        if elsewhere and scope["method"] not in ("GET", "HEAD"):
            raise ProblemError(403, "Pages of other sites may not use this service.")
        if self._doors.token is not None and scope["path"].startswith(GUARDED):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._doors.token.encode()
            ):
                raise ProblemError(
                    401,
                    "Expected 'Authorization: Bearer TOKEN', with the token that this service was "
                    "started with.",
                    {"WWW-Authenticate": "Bearer"},
                )


def _host_in(url: str) -> str:
    """The host in a URL, in lower case; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "(another method)"


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _drain(receive: Receive, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
