"""Diagnoses, one at a time, off the event loop; a client that goes away gives up its turn."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from lymphocytosis.serve.limits import Limits
from lymphocytosis.serve.problems import ProblemError

Answer = TypeVar("Answer")


class StoppedError(Exception):
    """Nobody waits for this diagnosis any more."""


class Turns:
    """Who is served, and who comes next.

    One diagnosis uses every core, so a second one at the same time would make both late.
    """

    def __init__(self, limits: Limits) -> None:
        """Make the line; nobody is in it."""
        self._limits = limits
        self._taken = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diagnosis")
        self._seconds = 1.0  # that the last diagnosis took

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a request, from before its body is received until it is answered.

        Raises:
            ProblemError: all places are taken.
        """
        if self._taken >= self._limits.requests:
            raise ProblemError(
                429,
                f"{self._taken} patients are being received or waiting. Try again later.",
                {"Retry-After": str(math.ceil(self._seconds))},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, request: Request, task: Callable[[Callable[[], None]], Answer]) -> Answer:
        """Wait for a turn and do the task in the thread, while the client is there.

        Args:
            request: its body has been received.
            task: takes a function that it calls now and then, which raises once nobody waits.

        Returns:
            What the task returns.

        Raises:
            ClientDisconnect: the client went away.
            ProblemError: the task took too long.
        """
        work = asyncio.create_task(self._work(task))
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            gone.cancel()
            work.cancel()

    async def _work(self, task: Callable[[Callable[[], None]], Answer]) -> Answer:
        stopped = Event()

        def check() -> None:
            if stopped.is_set():
                raise StoppedError

        await self._turn.acquire()
        start = time.monotonic()
        job = asyncio.get_running_loop().run_in_executor(self._thread, task, check)
        # A thread can't be ended from outside: the next turn comes once it has seen `stopped`.
        job.add_done_callback(self._next)
        try:
            done, _ = await asyncio.wait({job}, timeout=self._limits.work_seconds)
        finally:
            stopped.set()
        if not done:
            raise ProblemError(
                503,
                f"The diagnosis took longer than {self._limits.work_seconds:g} s and was stopped. "
                "Send fewer or smaller pictures.",
            )
        self._seconds = time.monotonic() - start
        return job.result()

    def _next(self, job: "asyncio.Future[Answer]") -> None:
        self._turn.release()
        # Where nobody waits any more, asyncio would log the error, and a file's name with it.
        with suppress(asyncio.CancelledError):
            job.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
