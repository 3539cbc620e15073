"""predictions.json: what was predicted, by which model, with which settings; so that a killed call can be repeated."""

import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.errors import Problem, SourceError
from medseg.evaluation.predictions_json import (
    PREDICTIONS_FILE,
    PredictedCase,
    Predictions,
    Stamp,
    read_predictions,
    write_predictions,
)
from medseg.files import written_whole
from medseg.inferers.model import Model
from medseg.inferers.recipe_model import RecipeModel
from medseg.io.mask_formats import Format, usual_format
from medseg.problems import problem_records
from medseg.progress import counted, warn
from medseg.records import read_record, write_record
from medseg.version import VERSION

# In the folder of masks: a file for each case that a worker elsewhere predicted, until it stands in predictions.json.
CASE_FILES = ".predictions"

# In which a killed call may lose the account of cases that it finished.
SECONDS_BETWEEN_WRITES = 5.0
# What writing may take of the time: the file of 100,000 cases takes seconds.
PART_OF_TIME = 0.05

# Where these are the same, so is what they predict.
MADE_BY = (
    "medseg", "model", "members", "weights_sha256", "device", "backend", "network", "inference", "postprocessing",
    "review", "registered",
)  # fmt: skip


class PredictionsFile:
    """Accounts for the cases of a call, and for those of earlier ones of the same model and settings.

    Cases that an earlier call predicted, and this one is not asked for, stay accounted for while their masks are there.

    Args:
        folder: Of the masks, or None where nothing is written.
        call: What predicts: all of the record but the cases and the problems.
    """

    def __init__(self, folder: Path | None, call: Predictions) -> None:
        self.folder = folder
        self.call = call
        self.before: dict[str, PredictedCase] = {}  # of an earlier call, by case id; they stay
        self.earlier = self._with_case_files(self._read_earlier())
        of_others = () if self.earlier is None else self.earlier.cases
        # The same, of cases that this call is not asked for.
        self.others = [each for each in of_others if each.case_id not in call.asked and self._is_written(each)]
        self.written_at, self.write_seconds = time.monotonic(), 0.0

    @classmethod
    def of(
        cls,
        model: Model | RecipeModel,
        config: InferenceConfig,
        registered: bool,
        folder: Path | None,
        cases: Sequence[Case] = (),
        place: tuple[str, str] | None = None,
    ) -> "PredictionsFile":
        """Returns the file of a call that predicts these cases.

        Args:
            model: What predicts.
            config: The settings of the windows.
            registered: Whether channels on different grids show one place.
            folder: Of the masks, or None.
            cases: What is asked for.
            place: The device of workers, and what runs the network there; None: those of the model.
        """
        device, backend = place or (str(model.device), model.backend)
        record, review = model.record, model.record.review
        if isinstance(model, RecipeModel):
            network: dict[str, Any] = model.record.model_dump(mode="json", include={"members"})
            inference: dict[str, Any] = {
                name: each[0].record.inference.model_dump(mode="json") for name, each in model.models.items()
            }
        else:
            network = model.record.plan.architecture.model_dump(mode="json", include={"name", "arguments"})
            inference = config.model_dump(mode="json")
        call = Predictions(
            medseg=VERSION,
            model=str(model.folder.resolve()),
            members=tuple(str(member.resolve()) for member in model.members),
            weights_sha256=model.fingerprint if folder is not None else "",
            device=device,
            backend=backend,
            network=network,
            inference=inference,
            postprocessing=tuple(str(rule) for rule in record.postprocessing),
            review=None if review is None else review.model_dump(mode="json"),
            registered=registered,
            labels=record.labels,
            asked=tuple(case.case_id for case in cases),
        )
        return cls(folder, call)

    def done_before(self, cases: Sequence[Case], formats: Sequence[Format], extras: Sequence[str]) -> list[str]:
        """Returns the case ids of what an earlier call of the same model and settings wrote.

        Their images haven't changed since.
        """
        entries = {} if self.earlier is None else {entry.case_id: entry for entry in self.earlier.cases}
        for case in cases:
            entry = entries.get(case.case_id)
            names = {format_.name for format_ in formats or [usual_format(case.images[0])]}
            if entry and self.folder and names <= entry.masks.keys() and set(extras) <= set(entry.extras):
                same = entry.images == stamps(case) and entry.spacing == case.spacing
                if same and self._is_written(entry):
                    self.before[case.case_id] = entry
        return list(self.before)

    def _read_earlier(self) -> Predictions | None:
        """Returns the file that is there, where the same model and settings made it."""
        if self.folder is None:
            return None
        try:
            found = read_predictions(self.folder)
        except SourceError as error:
            warn(f"{error}; all is predicted again")
            return None
        if found is None or all(getattr(found, key) == getattr(self.call, key) for key in MADE_BY):
            return found
        lost = [entry.case_id for entry in found.cases if entry.case_id not in self.call.asked]
        if lost:
            warn(
                f"{self.folder / PREDICTIONS_FILE}: another model, or other settings, made the masks of "
                f"{counted(len(lost), 'other case')} ({lost[0]}{', …' if len(lost) > 1 else ''}); they stay in the "
                "folder, and are accounted for no longer"
            )
        return None

    def _with_case_files(self, earlier: Predictions | None) -> Predictions | None:
        """Returns what earlier calls did, with the cases that a killed one left in files of their own."""
        left = {entry.case_id: entry for path in self._case_files() for entry in self._entries(path)}
        if not left:
            return earlier
        before = () if earlier is None else earlier.cases
        cases = (*(entry for entry in before if entry.case_id not in left), *left.values())
        return (earlier or self.call).model_copy(update={"cases": cases})

    def _case_files(self) -> list[Path]:
        return [] if self.folder is None else sorted((self.folder / CASE_FILES).rglob("*.json"))

    def _entries(self, path: Path) -> tuple[PredictedCase, ...]:
        """Returns the case of a file; none where another model or other settings made it, or it is damaged."""
        try:
            found = read_record(path, Predictions, "remove it")
        except SourceError as error:
            warn(f"{error}; its case is predicted again")
            return ()
        return found.cases if all(getattr(found, key) == getattr(self.call, key) for key in MADE_BY) else ()

    def _is_written(self, entry: PredictedCase) -> bool:
        return self.folder is not None and all((self.folder / name).exists() for name in entry.masks.values())

    @property
    def is_due(self) -> bool:
        """Whether so much time has passed that it is to be written again."""
        return time.monotonic() - self.written_at > max(SECONDS_BETWEEN_WRITES, self.write_seconds / PART_OF_TIME)

    def write(self, cases: Sequence[PredictedCase], problems: Sequence[Problem]) -> Predictions:
        """Returns the record, which is not written where masks are not written into a folder."""
        start, files = time.monotonic(), self._case_files()
        place = {case_id: i for i, case_id in enumerate(self.call.asked)}
        # A call that goes on with another's work leaves the same behind.
        mine = sorted([*self.before.values(), *cases], key=lambda each: place.get(each.case_id, 0))
        all_cases = [*self.others, *mine]
        asked = tuple(sorted({*self.call.asked, *self.before, *(each.case_id for each in self.others)}))
        update = {"asked": asked, "cases": tuple(all_cases), "problems": problem_records(problems)}
        record = self.call.model_copy(update=update)
        if self.folder is not None:
            write_predictions(self.folder, record)
            self._remove(files, {each.case_id for each in all_cases})
        self.written_at = time.monotonic()
        self.write_seconds = self.written_at - start
        return record

    def _remove(self, files: Sequence[Path], cases: Collection[str]) -> None:
        """Removes the files of cases that stand in predictions.json, and folders that are empty then."""
        place = (self.folder or Path()) / CASE_FILES
        for path in files:
            if path.relative_to(place).with_suffix("").as_posix() in cases:
                path.unlink(missing_ok=True)
        for folder in [*sorted({path.parent for path in files}, reverse=True), place]:
            with suppress(OSError):  # there are others in it
                folder.rmdir()


def write_case_file(folder: Path, call: Predictions, case: PredictedCase) -> Path:
    """Writes the file of a case that a worker predicted, and returns its path; ``PredictionsFile`` reads it.

    Args:
        folder: Of the masks.
        call: What predictions.json says of all cases.
        case: The entry of this one.

    Raises:
        OutputError: It cannot be written.
    """
    alone = call.model_copy(update={"asked": (case.case_id,), "cases": (case,), "problems": ()})
    return write_record(folder / CASE_FILES / f"{case.case_id}.json", alone)


def gather_predictions(folders: Sequence[Path], into: Path, model: Path) -> Predictions:
    """Copies the masks of several folders into one, and writes the predictions.json of all of them.

    Args:
        folders: Of the folds of a run, each with a predictions.json.
        into: The folder that gets the masks.
        model: What is said to have made them: the ensemble.

    Raises:
        SourceError: A folder has no predictions.json.
        OutputError: A mask cannot be written.
    """
    found = [_copied(folder, into) for folder in folders]
    together = found[0].model_copy(
        update={
            "model": str(model.resolve()),
            "asked": tuple(case_id for each in found for case_id in each.asked),
            "cases": tuple(case for each in found for case in each.cases),
            "problems": tuple(problem for each in found for problem in each.problems),
        }
    )
    write_predictions(into, together)
    return together


def _copied(folder: Path, into: Path) -> Predictions:
    """Copies the masks of a folder, and returns its predictions.json."""
    found = read_predictions(folder, "remove it, and go on with --resume")
    if found is None:
        raise SourceError(f"{folder / PREDICTIONS_FILE}: there is no such file; go on with --resume")
    for name in (name for case in found.cases for name in case.masks.values()):
        with written_whole(into / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    return found


def stamps(case: Case) -> tuple[Stamp, ...]:
    """Returns what tells whether the images of a case changed; of a DICOM series, that of its files together."""
    result = []
    for source in case.images:
        files = [path.stat() for path in source.files]
        size, changed = sum(file.st_size for file in files), max(file.st_mtime_ns for file in files)
        result.append((str(source.path.resolve()), size, changed))
    return tuple(result)
