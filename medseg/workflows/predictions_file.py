"""predictions.json: what was predicted, by which model, with which settings; so that a killed call can be repeated."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case, Problem
from medseg.errors import SourceError
from medseg.evaluation.predictions import PREDICTIONS_FILE, Predictions
from medseg.files import write_json
from medseg.inferers.model import Model
from medseg.io.mask_formats import Format, usual_format
from medseg.labels import Labels
from medseg.progress import warn
from medseg.records import read_object, validated
from medseg.version import VERSION

# In which a killed call may lose the account of cases that it finished.
SECONDS_BETWEEN_WRITES = 5.0

Entry = dict[str, Any]  # of a case
Stamp = tuple[str, int, int]  # of an image: its path, size in bytes, and time of change in ns


class PredictionsFile:
    """Of a folder of masks, or of none."""

    def __init__(self, path: Path | None, made_by: dict[str, Any], labels: Labels) -> None:
        self.path = path
        self.made_by = made_by
        self.labels = labels
        self.before: dict[str, Entry] = {}  # of an earlier call, by case id; they stay
        self.asked: list[str] = []  # ids of all cases that are to be predicted, in the order of the source
        self.written_at = time.monotonic()

    @classmethod
    def of(cls, model: Model, config: InferenceConfig, registered: bool, folder: Path | None) -> "PredictionsFile":
        review = model.record.review
        made_by = {
            "medseg": VERSION,
            "model": str(model.folder.resolve()),
            "members": [str(member.resolve()) for member in model.members],
            "weights_sha256": model.fingerprint if folder is not None else "",
            "device": str(model.device),
            "backend": model.backend,
            "network": model.record.plan.architecture.model_dump(mode="json", include={"name", "arguments"}),
            "inference": config.model_dump(mode="json"),
            "postprocessing": [str(rule) for rule in model.record.postprocessing],
            "review": None if review is None else review.model_dump(mode="json"),
            "registered": registered,
        }
        return cls(None if folder is None else folder / PREDICTIONS_FILE, made_by, model.record.labels)

    def done_before(self, cases: Sequence[Case], formats: Sequence[Format], extras: Sequence[str]) -> list[str]:
        """Case ids of what an earlier call of the same model and settings wrote, whose images haven't changed since."""
        entries = self._entries()
        self.order = [case.case_id for case in cases]
        for case in cases:
            entry = entries.get(case.case_id)
            names = {format_.name for format_ in formats or [usual_format(case.images[0])]}
            if entry and names <= entry["masks"].keys() and set(extras) <= set(entry.get("extras", ())):
                same = tuple(tuple(stamp) for stamp in entry.get("images", ())) == stamps(case)
                same = same and entry.get("spacing") == (case.spacing and list(case.spacing))
                if self.path and same and all((self.path.parent / name).exists() for name in entry["masks"].values()):
                    self.before[case.case_id] = entry
        return list(self.before)

    def _entries(self) -> dict[str, Entry]:
        """Of the file that is there, where the same model and settings made it."""
        if self.path is None or not self.path.is_file():
            return {}
        try:
            content = read_object(self.path)
            validated(content, Predictions, self.path, "")
        except SourceError as error:
            warn(f"{error}; all is predicted again")
            return {}
        same = all(content.get(key) == value for key, value in self.made_by.items())
        return {entry["case_id"]: entry for entry in content.get("cases", ())} if same else {}

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.written_at > SECONDS_BETWEEN_WRITES

    def write(self, entries: Sequence[Entry], problems: Sequence[Problem]) -> dict[str, Any]:
        """The content, which is not written where masks are not written into a folder."""
        place = {case_id: i for i, case_id in enumerate(self.asked)}
        content = {
            **self.made_by,
            "labels": self.labels.model_dump(mode="json"),
            "asked": sorted({*self.asked, *self.before}),
            # A call that goes on with another's work leaves the same behind.
            "cases": sorted([*self.before.values(), *entries], key=lambda each: place.get(each["case_id"], 0)),
            "problems": [
                {"case_id": problem.case_id, "path": str(problem.path), "problem": problem.message}
                for problem in problems
            ],
        }
        if self.path is not None:
            write_json(self.path, content)
        self.written_at = time.monotonic()
        return content


def stamps(case: Case) -> tuple[Stamp, ...]:
    """Of a DICOM series, that of its files together."""
    result = []
    for source in case.images:
        files = [path.stat() for path in source.files]
        size, changed = sum(file.st_size for file in files), max(file.st_mtime_ns for file in files)
        result.append((str(source.path.resolve()), size, changed))
    return tuple(result)
