"""Jobs that share a few threads."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")
Job = Generator[None, None, Result]
_GOES_ON = object()


def run_in_turns(
    jobs: Sequence[Job[Result]], at_once: int, initializer: Callable[[], Any] | None = None
) -> Iterator[tuple[int, Result]]:
    """Run jobs on some threads, which all stay busy until the last jobs are nearly done.

    Five equal jobs on two threads would leave a thread idle while the fifth runs. So one job per
    thread runs at a time, in order, until fewer than two per thread are left; these then alternate.
    They don't alternate from the start, so that a killed run leaves as many finished jobs as
    possible.

    Args:
        jobs: generators; each yields where another job may continue.
        at_once: number of threads.
        initializer: called by each thread when it starts.

    Yields:
        Each job's index and result, in the order they finish.

    Raises:
        Exception: what a job raises; the others stop at their next yield.
    """

    def go_on(place: int) -> Any:
        try:
            next(jobs[place])
        except StopIteration as end:
            return end.value
        return _GOES_ON

    begun, left = 0, len(jobs)
    running: dict[Future[Any], int] = {}
    with ThreadPoolExecutor(at_once, initializer=initializer) as pool:
        while left:
            wanted = left if left < 2 * at_once else at_once
            while begun < len(jobs) and len(running) < wanted:
                running[pool.submit(go_on, begun)] = begun
                begun += 1
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, result = running.pop(future), future.result()
                if result is _GOES_ON:
                    running[pool.submit(go_on, place)] = place
                else:
                    left -= 1
                    yield place, result
