"""A draft of a case list: what a layout found, before it is decided which cases can be used."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from medseg.dataset.cases import Case, CaseList
from medseg.dataset.names import rest_after, safe, unique
from medseg.errors import Problem, SourceError
from medseg.io.source import ImageSource
from medseg.labels import Labels


@dataclass
class FoundCase:
    """Images by channel (one without a name is ""), and the label map that goes with them, if any."""

    key: str  # a name, or a path of names: "STS_001/CT"
    images: dict[str, ImageSource] = field(default_factory=dict)
    label: ImageSource | None = None
    group: str = ""
    for_testing: bool = False  # by intention without a label

    @property
    def name(self) -> str:
        """``STS_001_CT``; a folder's name isn't repeated where the file's name begins with it."""
        parts = [name for name in map(safe, self.key.split("/")) if name]
        repeated = {i for i, (a, b) in enumerate(pairwise(parts)) if a == b or rest_after(a, b)}
        return "_".join(part for i, part in enumerate(parts) if i not in repeated)

    @property
    def path(self) -> Path:
        source = next(iter(self.images.values()), self.label)
        return source.path if source else Path(self.key)


@dataclass
class Draft:
    """What a layout found. ``channels`` and ``labels`` are set where the layout names them."""

    layout: str
    channels: tuple[str, ...] = ()
    labels: Labels | None = None
    cases: dict[str, FoundCase] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)  # notes about what could be chosen with --images

    def add_image(self, key: str, source: ImageSource, channel: str = "") -> FoundCase:
        case = self.cases.setdefault(key, FoundCase(key))
        if channel in case.images:
            self.add_problem(case, source.path, f"a second image beside {case.images[channel].path}")
        else:
            case.images[channel] = source
        return case

    def add_label(self, key: str, source: ImageSource) -> FoundCase:
        case = self.cases.setdefault(key, FoundCase(key))
        if case.label is not None:
            self.add_problem(case, source.path, f"a second label map beside {case.label.path}")
        else:
            case.label = source
        return case

    def add_problem(self, case: FoundCase, path: Path, message: str) -> None:
        self.problems.append(Problem(case.name, path, f"{path}: {message}; left out"))

    def settled(self, source: Path, labelled: bool | None) -> CaseList:
        """The cases that can be used. Raises ``SourceError`` without any, or without needed labels."""
        if not self.cases and not self.problems:
            raise SourceError(f"{source}: no cases in it, though it looks like {self.layout}")
        has_labels = any(case.label for case in self.cases.values())
        if labelled and self.cases and not has_labels:
            raise SourceError(
                f"{source}: {len(self.cases)} images but no label maps found; name both with patterns of "
                "your own, such as --images '*/image.nii.gz' --labels '*/mask.nii.gz', or in a cases.csv"
            )
        wanted = has_labels and labelled is not False
        usable = self._with_labels() if wanted else [case for case in self.cases.values() if case.images]
        usable = self._with_same_channels(sorted(usable, key=lambda case: case.key))
        channels = self._channel_names(usable)
        folder = source if source.is_dir() else source.parent
        names = unique([case.name or folder.resolve().name for case in usable])
        cases = tuple(
            Case(name, _by_channel(case), case.label if wanted else None, case.group)
            for name, case in zip(names, usable, strict=True)
        )
        notes = [*self.notes, *self.hints, *_notes_of(cases)]
        labels = self.labels if wanted else None
        return CaseList(self.layout, cases, channels, labels, tuple(self.problems), tuple(notes))

    def _with_labels(self) -> list[FoundCase]:
        """Cases with images and a label; the others become problems, or a note where they are test images."""
        usable = []
        n_testing = 0
        for case in self.cases.values():
            if case.images and case.label:
                usable.append(case)
            elif not case.images:
                self.add_problem(case, case.path, "a label map without its image")
            elif case.for_testing:
                n_testing += 1
            else:
                self.add_problem(case, case.path, "an image without its label map")
        if n_testing:
            self.notes.append(f"{n_testing} test images without label maps are left out")
        return usable

    def _with_same_channels(self, cases: list[FoundCase]) -> list[FoundCase]:
        """Cases with the set of channels that most of them have."""
        if all(len(case.images) == 1 for case in cases):
            return cases
        usual = Counter(tuple(sorted(case.images)) for case in cases).most_common(1)[0][0]
        usable = []
        for case in cases:
            if tuple(sorted(case.images)) == usual:
                usable.append(case)
            else:
                has = ", ".join(sorted(case.images))
                self.add_problem(case, case.path, f"has the images {has}; the others have {', '.join(usual)}")
        return usable

    def _channel_names(self, cases: list[FoundCase]) -> tuple[str, ...]:
        keys = {key for case in cases for key in case.images}
        if (self.channels and len(keys) <= 1) or len(self.channels) == len(keys):
            return self.channels
        if cases and len(cases[0].images) > 1:
            return tuple(sorted(keys))
        # One image a case: named by what all have in common.
        modalities = {source.modality for case in cases for source in case.images.values()}
        for names in (keys, modalities):
            name = next(iter(names)) if len(names) == 1 else ""
            if name and not name.isdigit():
                return (name,)
        return ("image",)


def _by_channel(case: FoundCase) -> tuple[ImageSource, ...]:
    return tuple(case.images[channel] for channel in sorted(case.images))


def _notes_of(cases: tuple[Case, ...]) -> list[str]:
    return [f"{case.case_id}: {note}" for case in cases for source in case.images for note in source.notes]
