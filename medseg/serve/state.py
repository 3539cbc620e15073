"""What all requests to one server share."""

import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random

from medseg.device import Device
from medseg.errors import did_you_mean
from medseg.serve.access import AccessRules
from medseg.serve.background_training import BackgroundTraining
from medseg.serve.datastore import Datastore
from medseg.serve.device_queue import DeviceQueue
from medseg.serve.models import ServedModel
from medseg.serve.refusals import NotFoundError

KEPT_LINES = 2000


class RecentLog(logging.Handler):
    """Keeps the last lines of what medseg says, for clients that show them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one record."""
        self.lines.append(self.format(record))


# Chooses the next case among those that are not annotated yet.
Strategy = Callable[[Datastore, list[str]], str]


def first_case(datastore: Datastore, open_cases: list[str]) -> str:
    """Returns the first case that is not annotated, by name."""
    return min(open_cases)


def random_case(datastore: Datastore, open_cases: list[str]) -> str:
    """Returns any case that is not annotated."""
    return Random().choice(open_cases)


@dataclass
class ServerState:
    """What all requests share.

    Attributes:
        datastore: Images and label maps.
        models: By the names that clients know.
        rules: Who may ask.
        device: Where networks run.
        training: In the background, of the same models.
        queue: Of the device.
        log: What was said lately.
        strategies: How the next case is chosen, by name; the first is the usual one.
        upkeep: What is done once a minute: what nobody uses any longer leaves memory and disk.
    """

    datastore: Datastore
    models: dict[str, ServedModel]
    rules: AccessRules
    device: Device
    training: BackgroundTraining
    queue: DeviceQueue = field(default_factory=DeviceQueue)
    log: RecentLog = field(default_factory=RecentLog)
    strategies: dict[str, Strategy] = field(default_factory=lambda: {"first": first_case, "random": random_case})
    upkeep: list[Callable[[], object]] = field(default_factory=list)

    def model(self, name: str) -> ServedModel:
        """Returns the model of a name.

        Raises:
            NotFoundError: There is none.
        """
        if name not in self.models:
            raise NotFoundError(f"there is no model '{name[:80]}'{did_you_mean(name, self.models)}")
        return self.models[name]

    def next_case(self, strategy: str, begun: Collection[str] = ()) -> str | None:
        """Returns the case to annotate next; None where all are.

        Args:
            strategy: Its name.
            begun: Cases that others are at; they come last.

        Raises:
            NotFoundError: There is no such strategy.
        """
        if strategy not in self.strategies:
            raise NotFoundError(f"there is no strategy '{strategy[:80]}'{did_you_mean(strategy, self.strategies)}")
        done = set(self.datastore.annotated())
        open_cases = [case_id for case_id in self.datastore.cases if case_id not in done]
        open_cases = [case_id for case_id in open_cases if case_id not in begun] or open_cases
        return self.strategies[strategy](self.datastore, open_cases) if open_cases else None
