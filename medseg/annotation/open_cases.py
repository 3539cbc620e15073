"""The cases that are drawn on: those of the last requests stay in memory."""

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Lock

from starlette.concurrency import run_in_threadpool

from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.open_case import OpenCase
from medseg.serve.models import ServedModel
from medseg.serve.refusals import NotFoundError

KEPT = 3  # cases in memory


class OpenCases:
    """Opens cases, each once, and keeps the last ones and those that somebody waits for.

    Args:
        folder: Which is annotated.
    """

    def __init__(self, folder: AnnotatedFolder) -> None:
        self.folder = folder
        self.open: OrderedDict[str, OpenCase] = OrderedDict()
        self._lock = Lock()
        self._opening: dict[str, Lock] = {}
        self._requests: Counter[str] = Counter()  # of each case, that are under way

    @asynccontextmanager
    async def of(self, case_id: str, model: ServedModel | None) -> AsyncIterator[OpenCase]:
        """Yields a case, which stays in memory until the request is answered.

        Args:
            case_id: The case.
            model: That helps now.

        Raises:
            NotFoundError: There is no such case.
            MedsegError: It cannot be opened.
        """
        if case_id not in self.folder.datastore.cases:
            raise NotFoundError(f"there is no case '{case_id[:80]}'")
        self._opening.setdefault(case_id, Lock())
        self._requests[case_id] += 1
        try:
            yield await run_in_threadpool(self._opened, case_id, model)
        finally:
            self._requests[case_id] -= 1

    def _opened(self, case_id: str, model: ServedModel | None) -> OpenCase:
        with self._opening[case_id]:  # the page asks for all parts of a case at once; it is opened once
            case = self.open.get(case_id)
            if case is None or (case.is_outdated and self._requests[case_id] == 1):
                case = OpenCase(self.folder, case_id, model)
            case.model = model  # which may have come since
            with self._lock:
                self.open[case_id] = case
                self.open.move_to_end(case_id)
                resting = [each for each in self.open if not self._requests[each]]
                for each in resting[: max(0, len(self.open) - KEPT)]:
                    del self.open[each]
        return case
