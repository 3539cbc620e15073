"""Work for a device, one after the other, in the order in which clients asked for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from medseg.serve.refusals import BusyError

P = ParamSpec("P")
R = TypeVar("R")

MOST_WAITING = 32


class DeviceQueue:
    """Lets one thread do the work for a device, so that two clients never share it at one time.

    While somebody waits for an answer, the server goes on answering everything else.

    Args:
        most_waiting: Requests that may wait; the next one is refused.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self.most_waiting = most_waiting
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "device")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Returns what a function returns, once it is its turn. A client that goes away before loses its place.

        Raises:
            BusyError: Too many are waiting.
        """
        if self.waiting >= self.most_waiting:
            raise BusyError("too many requests are waiting for the device; ask again")
        self.waiting += 1
        try:
            work = self._thread.submit(function, *args, **kwargs)
            return await asyncio.wrap_future(work)
        finally:
            self.waiting -= 1

    def submit(self, function: Callable[[], R]) -> "Future[R]":
        """Returns the result to come of what no client waits for; nothing is ever refused."""
        return self._thread.submit(function)

    def close(self) -> None:
        """Drops what is waiting; what is under way is finished."""
        self._thread.shutdown(wait=False, cancel_futures=True)
