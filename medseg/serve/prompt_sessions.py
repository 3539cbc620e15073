"""Sessions with prompts for clients that send all their prompts with each request, and remember nothing themselves."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from medseg.interactive.bounds import Bounds
from medseg.interactive.session import InteractiveSession
from medseg.serve.models import ServedModel
from medseg.volume import Geometry, MaskArray, Volume

KEPT = 4  # sessions, each with its image in memory
LONGEST_REST = 1800.0  # seconds without a request


@dataclass(frozen=True)
class SentPrompts:
    """The prompts of a request.

    Attributes:
        points: Voxel indices, which may lie between voxels, and whether each belongs to the object.
        roi: A box, half-open along each axis; None where there is none.
        foreground: Voxels that were drawn over, ``(x, y, z)``; None where there are none.
        background: The same of what is no part of the object.
    """

    points: tuple[tuple[tuple[float, float, float], bool], ...] = ()
    roi: Bounds | None = None
    foreground: MaskArray | None = field(default=None, compare=False)
    background: MaskArray | None = field(default=None, compare=False)

    @property
    def are_none(self) -> bool:
        """Whether there is no prompt."""
        return not self.points and self.roi is None and not self.have_strokes

    @property
    def have_strokes(self) -> bool:
        """Whether strokes came with the prompts: masks of the object or of what is beside it."""
        return self.foreground is not None or self.background is not None


class SessionKey(NamedTuple):
    """What tells one session from all others: the model, the image, who prompts, and which object.

    The image is empty where it came with the request, and nobody can ask about it again.
    """

    model: str
    image: str
    client: str
    label: str


@dataclass
class _Kept:
    session: InteractiveSession
    prompts: SentPrompts
    used: float


class PromptSessions:
    """Keeps the sessions of the last requests, so that one more point costs one answer.

    It is used by the thread of the device alone.

    Args:
        kept: How many sessions stay in memory.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._sessions: OrderedDict[SessionKey, _Kept] = OrderedDict()

    def mask(
        self, key: SessionKey, model: ServedModel, image: Callable[[], Volume], prompts: SentPrompts
    ) -> tuple[MaskArray, Geometry]:
        """Returns the mask of the object that is prompted, ``(x, y, z)``, and the grid of the image.

        Prompts that follow those of the last request are added to them; others begin anew.

        Args:
            key: What tells the session from others; without the name of an image it is not kept.
            model: Answers.
            image: Reads the image, where no session has it.
            prompts: All of the object.

        Raises:
            MedsegError: A prompt lies outside of the image, or the model answers to none.
        """
        entry = self._entry(key, model, image)
        sent_before, entry.prompts = entry.prompts, SentPrompts()  # where one is refused, the next request begins anew
        before = sent_before.points
        goes_on = bool(before) and set(before) <= set(prompts.points) and prompts.roi == sent_before.roi
        goes_on = goes_on and not prompts.have_strokes and not sent_before.have_strokes
        session, points = entry.session, [each for each in prompts.points if not (goes_on and each in before)]
        if not goes_on:
            session.reset()
            self._add_areas(session, prompts)
        for index, positive in points:
            session.add_point(index, positive, predict=False)
        if points or not goes_on:
            session.predict()
        entry.prompts = prompts
        return session.mask, session.image.geometry

    def forget_old(self) -> None:
        """Forgets sessions that have rested for long."""
        now = time.monotonic()
        for old in [each for each, kept in self._sessions.items() if now - kept.used > LONGEST_REST]:
            del self._sessions[old]

    def _entry(self, key: SessionKey, model: ServedModel, image: Callable[[], Volume]) -> _Kept:
        self.forget_old()
        loaded, now = model.promptable(), time.monotonic()
        entry = self._sessions.pop(key, None)
        if entry is None or entry.session.model is not loaded:
            entry = _Kept(InteractiveSession(loaded, image()), SentPrompts(), now)
        if not key.image:
            return entry
        entry.used = now
        self._sessions[key] = entry
        while len(self._sessions) > self.kept:
            self._sessions.popitem(last=False)
        return entry

    def _add_areas(self, session: InteractiveSession, prompts: SentPrompts) -> None:
        if prompts.roi is not None:
            session.add_box(prompts.roi, predict=False)
        if prompts.foreground is not None:
            session.add_scribble(prompts.foreground, predict=False)
        if prompts.background is not None:
            session.add_scribble(prompts.background, False, predict=False)
