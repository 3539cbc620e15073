"""Leases: each client has a session of its own, until it gives it back, rests for long, or is gone."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from medseg.interactive.session import InteractiveSession
from medseg.serve.refusals import BusyError

MOST_SESSIONS = 8
IDLE_SECONDS = 600.0  # without anything that a person does
LIVENESS_SECONDS = 60.0  # without any sign of life


@dataclass
class Lease:
    """The session of one client.

    Attributes:
        seen: When the client last showed that it is there, by a clock that only goes forward.
        active: When a person last did something.
        session: With prompts; None before an image was sent.
        dtype: In which the client wants masks.
        steps: How many prompts can be taken back.
        lock: Its requests come one after the other.
    """

    seen: float
    active: float
    session: InteractiveSession | None = None
    dtype: str = "uint8"
    steps: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Leases:
    """The sessions of all clients.

    Args:
        most: How many there may be at a time.
        idle: Seconds after which the session of a person who does nothing ends.
        liveness: Seconds after which the session of a client that sends nothing ends.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        most: int = MOST_SESSIONS,
        idle: float = IDLE_SECONDS,
        liveness: float = LIVENESS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.idle, self.liveness, self.clock = most, idle, liveness, clock
        self._leases: dict[str, Lease] = {}

    def claim(self) -> str:
        """Begins a session, and returns the token that its client shows from then on.

        Raises:
            BusyError: There are too many.
        """
        self.end_old()
        if len(self._leases) >= self.most:
            raise BusyError(f"{self.most} sessions are open, and no more are taken; ask again")
        token, now = secrets.token_hex(16), self.clock()
        self._leases[token] = Lease(now, now)
        return token

    def get(self, token: str | None, *, acts: bool = True, shows_life: bool = True) -> Lease:
        """Returns the session of a token.

        Args:
            token: What the client shows.
            acts: Whether a person does something.
            shows_life: Whether the request counts at all.

        Raises:
            HTTPException: It has ended, or never was: 410.
        """
        self.end_old()
        lease = self._leases.get(token or "")
        if lease is None:
            raise HTTPException(410, "the session has ended; begin a new one")
        now = self.clock()
        lease.seen = now if shows_life else lease.seen
        lease.active = now if acts else lease.active
        return lease

    def remaining(self, lease: Lease) -> float:
        """Returns the seconds until a session ends, if nobody does anything."""
        return max(0.0, self.idle - (self.clock() - lease.active))

    def release(self, token: str | None) -> None:
        """Ends a session; nothing happens where there is none."""
        self._leases.pop(token or "", None)

    def end_old(self) -> None:
        """Ends the sessions of clients that rest or are gone."""
        now = self.clock()
        for token, lease in list(self._leases.items()):
            is_at_work = lease.lock.locked()  # a request is under way, however long it takes
            if not is_at_work and (now - lease.seen > self.liveness or now - lease.active > self.idle):
                del self._leases[token]
