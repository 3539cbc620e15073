"""A folder of images that is being annotated: its cases, what state they are in, and which are held back."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt

from medseg.dataset.annotations import ANNOTATIONS, RUNS, Authorship, with_values
from medseg.dataset.cases import Case
from medseg.errors import ConfigError, LabelError, shown
from medseg.files import modified_at
from medseg.io.source import ImageSource
from medseg.labels import IGNORED, MOST_LABELS, Labels
from medseg.records import Record, read_record, write_record
from medseg.serve.datastore import Datastore
from medseg.structures import Colour
from medseg.table import write_table
from medseg.volume import Array, LabelMap

HELD_BACK_FILE = "held_back.json"
DRAFTS = ".drafts"
LONGEST_NAME = 100

LEAST_TO_HOLD_BACK = 5  # cases: of fewer, none can be spared
MOST_HELD_BACK = 20

State = Literal["new", "draft", "saved"]


class HeldBackRecord(Record):
    """The content of annotations/held_back.json.

    Attributes:
        cases: Ids of the cases that no network is trained on: the learning curve is measured on them.
        seed: By which they were drawn.
    """

    cases: tuple[str, ...]
    seed: NonNegativeInt = 0


class AnnotatedFolder:
    """The cases of a folder, and how far each is.

    Args:
        datastore: The images and label maps.
        part: Of the cases that is held back, when the folder is annotated for the first time.
        seed: Draws these.

    Raises:
        ConfigError: The part is none.
        SourceError: held_back.json is damaged.

    Examples:
        >>> import numpy as np
        >>> from medseg.io import Geometry, write_nifti
        >>> Path("scans").mkdir()
        >>> write_nifti("scans/ct.nii.gz", np.zeros((4, 5, 6), np.int16), Geometry((4, 5, 6), np.eye(4)))
        >>> folder = AnnotatedFolder(Datastore(Path("scans")))
        >>> folder.add_label("liver").names, folder.state("ct"), folder.held_back
        (['liver'], 'new', ())
    """

    def __init__(self, datastore: Datastore, part: float = 0.2, seed: int = 0) -> None:
        self.datastore = datastore
        self.place = datastore.folder / ANNOTATIONS
        self.held_back = self._held_back(part, seed)

    @property
    def labels(self) -> Labels:
        """The labels that can be drawn, with their values in the label maps."""
        return self.datastore.labels

    @property
    def runs(self) -> Path:
        """The folder of the runs that are trained on the page."""
        return self.place / RUNS

    def journal(self, case_id: str) -> Path:
        """Returns where the journal of a case lies that was drawn on and not saved."""
        return self.place / DRAFTS / f"{case_id}.journal"

    def state(self, case_id: str) -> State:
        """Returns whether a case is new, drawn on, or has a label map and nothing was drawn since."""
        if self.journal(case_id).is_file():
            return "draft"
        return "saved" if case_id in self.annotated else "new"

    def saved_at(self, case_id: str) -> int:
        """Returns when the label map of a case was written, in ns since 1970; 0 where it has none."""
        return modified_at(self.datastore.place(case_id))

    def version(self, case_id: str) -> str:
        """Returns what is another text whenever the label map of a case, or its journal, is another on the disk."""
        with suppress(OSError):
            return version_of(self.saved_at(case_id), self.journal(case_id).stat().st_size)
        return version_of(self.saved_at(case_id), 0)

    @property
    def annotated(self) -> list[str]:
        """Ids of the cases that have a label map."""
        return self.datastore.annotated()

    def label_map(self, case_id: str) -> Array:
        """Returns what was saved of a case, or came with its dataset.

        Returns:
            uint8 ``(x, y, z)`` in network values; zeros where there is nothing.

        Raises:
            MedsegError: It cannot be read.
        """
        saved = self.datastore.label_map(case_id)
        return np.zeros(self.datastore.grid(case_id).shape, np.uint8) if saved is None else self.labels.encode(saved)

    def save(self, case_id: str, label_map: Array, by: Authorship) -> None:
        """Saves the label map of a case, then forgets its journal.

        Whenever the process is killed, either the old or the new label map is there, whole.

        Args:
            case_id: The case.
            label_map: uint8 ``(x, y, z)`` in network values, on the grid of the image.
            by: Where it comes from.

        Raises:
            OutputError: It cannot be written.
        """
        names = dict(zip(self.labels.values, self.labels.names, strict=True))
        self.datastore.save(case_id, self._decoded(label_map), names, by)
        self.journal(case_id).unlink(missing_ok=True)

    def add_label(self, name: str, colour: Colour | None = None) -> Labels:
        """Adds a structure that can be drawn, with the next free value.

        Raises:
            LabelError: It is there already, has no name, or there are too many.
        """
        name = name.strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise LabelError(f"a label needs a name, of at most {LONGEST_NAME} printable characters")
        with self.datastore.lock:
            if name in self.labels.names:
                raise LabelError(f"there is a label '{name}' already; choose another name")
            if len(self.labels.items) >= MOST_LABELS:
                raise LabelError(f"there are {MOST_LABELS} labels already, and no more can be trained together")
            labels = with_values(self.labels, [name])
            if colour is not None:
                labels = labels.described({name: {"colour": colour}})
            self.datastore.folder_labels.write(labels)
            return labels

    def write_cases(self, folder: Path, case_ids: Iterable[str], *, labelled: bool) -> Path:
        """Writes a cases.csv of some of the cases, and a dataset.json that names their labels.

        Args:
            folder: Where to.
            case_ids: The cases.
            labelled: Whether label maps are named; cases without one are left out then.

        Returns:
            The table, which ``preprocess``, ``predict`` and ``evaluate`` take.
        """
        rows = [row for case_id in case_ids for row in self._row(case_id, labelled)]
        images = list(dict.fromkeys(column for row in rows for column in row if column.startswith("image"))) or [
            "image"
        ]
        write_record(folder / "dataset.json", TableLabels.of(self.labels))
        return write_table(folder / "cases.csv", ["case_id", *images, "label", "group", "spacing"], rows)

    def _row(self, case_id: str, labelled: bool) -> Iterator[dict[str, str]]:
        case = self.datastore.cases[case_id]
        drawn = self.datastore.label_path(case_id)
        reference = self.datastore.references.get(case_id)
        label = drawn or (reference.label.path if reference is not None and reference.label is not None else None)
        if labelled and label is None:
            return
        names = case.channels if len(set(case.channels)) == len(case.images) else range(len(case.images))
        columns = ["image"] if len(case.images) == 1 else [f"image_{name}" for name in names]
        row = dict(zip(columns, map(_path, case.images), strict=True))
        if case.spacing is not None:
            row["spacing"] = " ".join(map(str, case.spacing))
        if labelled and label is not None:
            row["label"] = shown(str(label.resolve()))
        yield {"case_id": case_id, "group": case.group, **row}

    def _held_back(self, part: float, seed: int) -> tuple[str, ...]:
        if not 0 <= part < 1:
            raise ConfigError(f"--held-back {part}: give a part of the cases from 0 to below 1, such as 0.2")
        path = self.place / HELD_BACK_FILE
        if path.is_file():
            record = read_record(path, HeldBackRecord, "remove it to draw the held-back cases anew")
        else:
            record = HeldBackRecord(cases=drawn(list(self.datastore.cases.values()), part, seed), seed=seed)
            write_record(path, record)
        return tuple(case_id for case_id in record.cases if case_id in self.datastore.cases)

    def _decoded(self, label_map: Array) -> LabelMap:
        ignored = label_map == IGNORED
        decoded = self.labels.decode(np.where(ignored, 0, label_map).astype(np.uint8))
        if self.labels.ignore is not None and ignored.any():
            decoded = np.where(ignored, self.labels.ignore, decoded)
        return decoded


class TableColour(Record):
    """How a label is shown."""

    colour: Colour


class TableLabels(Record):
    """dataset.json beside a cases.csv, in the form of nnU-Net.

    Attributes:
        labels: The value by name.
        structures: The colour by name.
    """

    labels: dict[str, int]
    structures: dict[str, TableColour]

    @classmethod
    def of(cls, labels: Labels) -> "TableLabels":
        """Returns the table that names these labels."""
        values = {"background": 0, **dict(zip(labels.names, labels.values, strict=True))}
        values |= {} if labels.ignore is None else {"ignore": labels.ignore}
        return cls(labels=values, structures={each.name: TableColour(colour=each.colour) for each in labels.items})


def version_of(saved_at: int, length: int) -> str:
    """Returns the version of a label map that was saved at a time, and has a journal of so many bytes."""
    return f"{saved_at:x}-{length:x}"


def drawn(cases: Sequence[Case], part: float, seed: int) -> tuple[str, ...]:
    """Returns the ids of the cases that are held back: whole groups, so that no patient is on both sides.

    Args:
        cases: All cases.
        part: Of the cases; of fewer than five, none is held back, and never more than twenty and their groups.
        seed: Draws them.

    Examples:
        >>> drawn([Case(f"case_{i}", ()) for i in range(10)], 0.2, 0)
        ('case_4', 'case_6')
    """
    if len(cases) < LEAST_TO_HOLD_BACK or not part:
        return ()
    wanted = min(MOST_HELD_BACK, max(1, round(part * len(cases))))
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.group or f"\0{case.case_id}", []).append(case.case_id)
    names, held = list(groups), list[str]()
    for i in np.random.default_rng(seed).permutation(len(names)):
        if len(held) >= wanted:
            break
        held += groups[names[int(i)]]
    return tuple(sorted(held))


def _path(source: ImageSource) -> str:
    """Returns what finds an image again: of a DICOM series one file, since several may lie in its folder."""
    if source.kind == "dicom" and not source.part:
        return shown(str(source.files[0].resolve()))
    return shown(str((source.path / source.part).resolve()))
