"""Training while somebody draws: held-back cases are left out, and afterwards the network is measured on them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime

from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.learning_curve import LearningCurve, LearningPoint, dice_by_label
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.evaluation.metrics_json import METRICS_FILE, read_metrics
from medseg.evaluation.predictions_json import read_predictions
from medseg.progress import counted, warn
from medseg.records import Record
from medseg.serve.background_training import BackgroundTraining, TrainingTask
from medseg.serve.models import ServedModel

MOST_PREDICTED = 100  # cases that are not drawn yet, of which the network is asked what it expects


class TrainingStatus(Record):
    """What the page shows of training.

    Attributes:
        status: "RUNNING", "DONE", "ERROR" or "STOPPED"; empty before the first training.
        step: The command that is under way.
        message: What came out, or went wrong.
        begun: When.
        cases: How many cases could be trained on now.
        curve: What came out so far.
    """

    status: str = ""
    step: str = ""
    message: str = ""
    begun: AwareDatetime | None = None
    cases: int = 0
    curve: LearningCurve = LearningCurve()


class Rounds(BackgroundTraining):
    """Trains on the annotated cases of a folder, round after round; each begins with the network of the one before.

    Args:
        folder: What is annotated.
        models: Those of the server; a new one is added to them.
        device: Where networks are trained, and run.
        settings: Options of ``medseg train`` that are added.
    """

    def __init__(
        self, folder: AnnotatedFolder, models: dict[str, ServedModel], device: Device, settings: Sequence[str] = ()
    ) -> None:
        super().__init__(folder.datastore, models, device, tuple(settings))
        self.folder = folder
        self._step = ""
        self._doubt: dict[str, float] = {}
        points = self.curve.points
        if points:
            self._learn_doubt(folder.runs / points[-1].run)

    @property
    def curve(self) -> LearningCurve:
        """The learning curve: how well the network of each round does on the cases held back.

        Raises:
            SourceError: Its file is damaged.
        """
        return LearningCurve.read(self.folder.runs)

    def cases(self) -> list[str]:
        """Returns the ids of the cases that networks are trained on: annotated, and not held back."""
        held = set(self.folder.held_back)
        return [case_id for case_id in self.folder.annotated if case_id not in held]

    def measured_cases(self) -> list[str]:
        """Returns the ids of the held-back cases that are annotated."""
        annotated = set(self.folder.annotated)
        return [case_id for case_id in self.folder.held_back if case_id in annotated]

    def doubt(self) -> dict[str, float]:
        """Returns 1 minus the Dice that the last network expects, of each case that it was asked about."""
        return dict(self._doubt)

    def told(self) -> TrainingStatus:
        """Returns what the page shows."""
        known = TrainingStatus(cases=len(self.cases()), curve=self.curve)
        task = self.task
        if task is None:
            return known
        return known.model_copy(
            update={
                "status": task.status,
                "step": self._step if self.is_running else "",
                "message": task.lines[-1] if task.lines else "",
                "begun": datetime.fromtimestamp(task.begun, UTC),
            }
        )

    def commands(self, task: TrainingTask) -> Iterator[list[str]]:
        """Yields the commands of a round: prepare, train, measure, and ask about the cases that are not drawn yet."""
        for command in self._commands(task):
            self._step = command[0]
            yield command

    def take(self, task: TrainingTask) -> None:
        """Adds a point to the learning curve, and lets the page have the new network."""
        super().take(task)
        by_label: dict[str, float] = {}
        if (task.folder / "metrics" / METRICS_FILE).is_file():
            by_label = dice_by_label(read_metrics(task.folder / "metrics" / METRICS_FILE))
        dice = sum(by_label.values()) / len(by_label) if by_label else None
        trained, measured = (len((task.folder / name / "cases.csv").read_text().splitlines()) - 1 for name in PARTS)
        point = LearningPoint(
            run=task.folder.name,
            cases=trained,
            held_back=measured,
            dice=dice,
            by_label=by_label,
            finished=datetime.now(UTC),
        )
        self.curve.with_point(point, self.folder.runs)
        self._learn_doubt(task.folder)
        told = f"; Dice of {counted(measured, 'held-back case')}: {dice:.3f}" if dice is not None else ""
        task.lines.append(f"trained on {counted(trained, 'case')}{told}")

    def _commands(self, task: TrainingTask) -> Iterator[list[str]]:
        training, held, unknown = (task.folder / name for name in (*PARTS, "not_drawn"))
        _, train = super().commands(task)  # which prepares all that is annotated, held-back cases among it
        run, device = str(task.folder / "run"), ["--device", str(self.device.torch_device)]
        measured = self.measured_cases()
        self.folder.write_cases(training, self.cases(), labelled=True)
        self.folder.write_cases(held, measured, labelled=True)
        yield ["preprocess", str(training), "-o", str(task.folder / "prepared")]
        yield train
        if measured:
            masks = str(task.folder / "held_back_masks")
            yield ["predict", run, str(held), "-o", masks, *device]
            yield ["evaluate", masks, str(held), "-o", str(task.folder / "metrics"), "--metrics", "overlap"]
        done = {*self.folder.annotated, *self.folder.held_back}
        open_cases = [case_id for case_id in self.folder.datastore.cases if case_id not in done][:MOST_PREDICTED]
        if open_cases:
            self.folder.write_cases(unknown, open_cases, labelled=False)
            yield ["predict", run, str(unknown), "-o", str(_masks_not_drawn(task.folder)), *device]

    def _learn_doubt(self, folder: Path) -> None:
        try:
            predictions = read_predictions(_masks_not_drawn(folder))
        except MedsegError as error:
            warn(str(error))
            return
        if predictions is None:
            return
        for case in predictions.cases:
            expected = case.estimated_dice or case.expected_dice
            # A label that is not found at all has no expected Dice, and counts as 0: it may be the hardest to find.
            self._doubt[case.case_id] = 1 - sum(expected.values()) / max(1, len(predictions.labels.items))


PARTS = ("training", "held_back")  # folders with a cases.csv each


def _masks_not_drawn(folder: Path) -> Path:
    """Returns where the masks of a round lie that its network gives of cases that are not drawn yet."""
    return folder / "not_drawn_masks"
