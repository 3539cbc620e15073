"""A draft of a case list: what a layout found, before it is decided which cases can be used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from medseg.dataset.cases import Case, CaseList, LabelSource
from medseg.dataset.layouts.file_names import rest_after, safe, unique
from medseg.dataset.layouts.patient_names import patients_by_name, patients_note
from medseg.dataset.layouts.segment_labels import NamedLabels, name_labels
from medseg.dataset.spacing import spaced
from medseg.errors import ConfigError, Problem, SourceError
from medseg.io.archives import origin, without_suffix
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import counted
from medseg.volume import Spacing3


@dataclass
class FoundCase:
    """Images by channel (one without a name is ""), and the label map that goes with them, if any.

    There may be several segmentations in place of a label map.
    """

    key: str  # a name, or a path of names: "STS_001/CT"
    images: dict[str, ImageSource] = field(default_factory=dict)
    labels: list[ImageSource] = field(default_factory=list)
    objects: ImageSource | None = None  # the object map, beside the label map or in its place
    group: str = ""
    annotated: tuple[str, ...] | None = None  # names of the labels that were drawn where they are; None: all
    spacing: Spacing3 | None = None  # what the user says of its voxels, in mm
    unlabelled_as: str = ""  # what it is that has no label by intention: "test image"

    @property
    def name(self) -> str:
        """The case id: ``STS_001_CT``; a folder's name isn't repeated where the file's name begins with it."""
        parts = [name for name in map(safe, self.key.split("/")) if name]
        repeated = {i for i, (a, b) in enumerate(pairwise(parts)) if a == b or rest_after(a, b)}
        return "_".join(part for i, part in enumerate(parts) if i not in repeated)

    @property
    def path(self) -> Path:
        """The path of its first image or label map."""
        source = next(iter([*self.images.values(), *self.labels]), None)
        return source.path if source else Path(self.key)

    @property
    def is_segmented(self) -> bool:
        """Whether its label has named segments rather than values."""
        return any(source.has_segments for source in self.labels)


@dataclass
class CaseListDraft:
    """What a layout found. ``channels`` and ``labels`` are set where the layout names them."""

    layout: str
    channels: tuple[str, ...] = ()
    labels: Labels | None = None
    cases: dict[str, FoundCase] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)  # notes about what could be chosen with --images
    groups_given: bool = False  # whether the user says which cases are of one patient
    doubts: list[str] = field(default_factory=list)  # warnings: what may be meant otherwise
    is_whole: bool = True  # whether what no case has is worth telling: not where the user chose
    searched: bool = False  # whether the images were searched for, and not listed by the user
    instances: tuple[str, ...] = ()  # labels whose objects the layout tells apart, where it names no labels

    def add_image(self, key: str, source: ImageSource, channel: str = "") -> FoundCase:
        """Adds an image to a case, which is made where there is none; a problem where the case has this channel."""
        case = self.cases.setdefault(key, FoundCase(key))
        if channel in case.images:
            self.add_problem(case, source.path, f"a second image beside {case.images[channel].path}")
        else:
            case.images[channel] = source
        return case

    def add_label(self, key: str, source: ImageSource) -> FoundCase:
        """Adds a label map to a case, which is made where there is none; a problem where the case has one."""
        case = self.cases.setdefault(key, FoundCase(key))
        if case.labels and not (case.labels[0].has_segments and source.has_segments):
            self.add_problem(case, source.path, f"a second label map beside {case.labels[0].path}")
        else:
            case.labels.append(source)
        return case

    def add_all(self, other: "CaseListDraft", part: str) -> None:
        """Adds the cases of another draft; below the name of its ``part`` where a name is taken."""
        prefix = f"{part}/" if other.cases.keys() & self.cases.keys() else ""
        for case in other.cases.values():
            case.key = f"{prefix}{case.key}"
            self.cases[case.key] = case
        self.problems += other.problems
        self.notes += other.notes

    def add_problem(self, case: FoundCase, path: Path, message: str) -> None:
        """Adds a problem with a file of a case."""
        self.problems.append(Problem(case.name, path, f"{path}: {message}; left out"))

    def settled(
        self,
        source: Path,
        labelled: bool | None,
        rename: Mapping[str, str] | None = None,
        incomplete: bool = False,
        instances: Sequence[str] = (),
    ) -> CaseList:
        """Returns the cases that can be used.

        Args:
            source: What the user gave.
            labelled: Whether cases need a label map.
            rename: Other names for named segments.
            incomplete: Whether cases that lack channels can be used too.
            instances: The names of labels whose objects are told apart; () for those that the layout names.

        Raises:
            SourceError: There are none, or none with needed labels.
            ConfigError: Nothing says which values the labels of ``instances`` have.
            LabelError: One of ``instances`` is no label.
        """
        if not self.cases and not self.problems:
            raise SourceError(f"{source}: no cases in it, though it looks like {self.layout}")
        self._take_objects_for_labels()
        told = tuple(instances) or self.instances
        has_labels = any(case.labels for case in self.cases.values())
        if labelled and self.cases and not has_labels:
            raise SourceError(
                f"{source}: {len(self.cases)} images but no label maps found; name both with patterns of "
                "your own, such as --images '*/image.nii.gz' --labels '*/mask.nii.gz', or in a cases.csv"
            )
        wanted = has_labels and labelled is not False
        usable = sorted(self.cases.values(), key=lambda case: case.key)
        if wanted:
            usable = self._without_unlabelled(usable)
        usable = [case for case in usable if case.images]
        if not incomplete:
            usable = self._with_same_channels(usable)
        if wanted:
            usable = self._with_labels(usable)
        named = self._named(usable, rename or {}, told) if wanted else None
        if named is not None:
            usable = [case for case in usable if case.key not in named.errors]
        channels = self._channel_names(usable)
        patients = self._group_by_names(usable)
        folder = without_suffix(origin(source.resolve() if source.is_dir() else source.resolve().parent))
        names = unique([case.name or folder.name for case in usable])
        cases = tuple(
            spaced(
                Case(
                    name,
                    tuple(case.images[channel] for channel in self._in_order(case)),
                    _label(case, named) if wanted else None,
                    case.group,
                    case.annotated,
                    self._in_order(case) if "" not in case.images else (),
                    objects=case.objects if wanted else None,
                ),
                case.spacing,
            )
            for name, case in zip(names, usable, strict=True)
        )
        notes = [*self.notes, *(named.notes if named else ()), *self.hints, *patients, *_notes_of(cases)]
        labels = (named.labels if named else with_instances(self.labels, told)) if wanted else None
        return CaseList(self.layout, cases, channels, labels, tuple(self.problems), tuple(notes), tuple(self.doubts))

    def _take_objects_for_labels(self) -> None:
        """Takes object maps for the label maps of cases that have no others: their values number objects."""
        for case in self.cases.values():
            if case.objects is not None and not case.labels:
                case.labels, case.objects = [case.objects], None

    def _group_by_names(self, usable: list[FoundCase]) -> list[str]:
        """Gives cases that nobody grouped the patients that their names tell of; notes on these."""
        nameless = [case for case in usable if not case.group]
        if self.groups_given or not nameless:
            return []
        patients = patients_by_name(sorted({*self.cases, *(case.key for case in usable)}))
        for case in nameless:
            case.group = patients.get(case.key, "")
        return patients_note([case.group for case in nameless if case.group])

    def _without_unlabelled(self, cases: list[FoundCase]) -> list[FoundCase]:
        """Returns the cases without those that have no label map by intention, which are noted."""
        unlabelled = Counter(case.unlabelled_as for case in cases if case.unlabelled_as and not case.labels)
        self.notes += [f"without label maps, left out: {counted(n, what)}" for what, n in unlabelled.items()]
        return [case for case in cases if case.labels or not case.unlabelled_as]

    def _with_labels(self, cases: list[FoundCase]) -> list[FoundCase]:
        """Returns those of the cases that have a label map; the others become problems, and label maps without
        images too."""
        for case in cases:
            if not case.labels:
                self.add_problem(case, case.path, "an image without its label map")
        for case in self.cases.values():
            if not case.images:
                self.add_problem(case, case.path, "a label map without its image")
        return [case for case in cases if case.labels]

    def _named(self, cases: list[FoundCase], rename: Mapping[str, str], instances: Sequence[str]) -> NamedLabels | None:
        """Returns the labels by name, where segments have names; cases whose segments cannot be used become
        problems."""
        sources = {case.key: case.labels for case in cases if case.is_segmented}
        if not sources and rename:
            raise ConfigError(
                "--rename: there is no DICOM SEG, RTSTRUCT or .seg.nrrd, and no file a structure, that could be renamed"
            )
        if not sources:
            return None
        named = name_labels(sources, rename, self.labels, instances)
        for key, error in named.errors.items():
            self.problems.append(Problem(self.cases[key].name, self.cases[key].labels[0].path, f"{error}; left out"))
        return named

    def _with_same_channels(self, cases: list[FoundCase]) -> list[FoundCase]:
        """Returns the cases with the set of channels that most of them have."""
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
        if max((len(case.images) for case in cases), default=0) > 1:
            return tuple(sorted(keys))
        # One image a case: named by what all have in common.
        modalities = {source.modality for case in cases for source in case.images.values()}
        for names in (keys, modalities):
            name = next(iter(names)) if len(names) == 1 else ""
            if name and not name.isdigit():
                return (name,)
        return ("image",)

    def _in_order(self, case: FoundCase) -> tuple[str, ...]:
        """Returns the channels of a case in the order that the layout gives, else in that of their names."""
        order = {channel: i for i, channel in enumerate(self.channels)}
        return tuple(sorted(case.images, key=lambda c: (order.get(c, 0), c)))


def with_instances(labels: Labels | None, instances: Sequence[str]) -> Labels | None:
    """Returns the labels of a dataset, of which some are objects.

    Args:
        labels: None where no file names any: then there is one label, whose objects the values of label maps number.
        instances: The names of those that are objects; () for those that ``labels`` says.

    Raises:
        ConfigError: There are several, and nothing says which values they have.
        LabelError: One is no label.
    """
    if labels is not None and instances:
        return labels.with_instances(instances)
    if labels is not None or not instances:
        return labels
    if len(instances) > 1:
        raise ConfigError(
            f"--instances: nothing says which values {', '.join(instances)} have; name all labels in a dataset.json, "
            'as in {"labels": {"nucleus": 1, "cell": 2}, "instances": ["nucleus", "cell"]}, and let an object map in a '
            "folder 'objects' beside the label maps number their objects"
        )
    return Labels.from_names({instances[0]: 1}).with_instances(instances)


def _label(case: FoundCase, named: NamedLabels | None) -> LabelSource:
    if named and case.is_segmented:
        return named.sources[case.key]
    return LabelSource(tuple(case.labels), {} if case.labels[0].kind == "pictures" else None)


def _notes_of(cases: tuple[Case, ...]) -> list[str]:
    sources = [
        (case, source) for case in cases for source in [*case.images, *(case.label.sources if case.label else ())]
    ]
    notes = [f"{case.case_id}: {note}" for case, source in sources for note in source.notes]
    modalities = Counter(case.images[0].modality for case in cases if case.label and case.images[0].modality)
    if len(modalities) > 1:
        counts = ", ".join(f"{modality} ({n})" for modality, n in sorted(modalities.items()))
        channels = " ".join(f"--images '{modality}=…'" for modality in sorted(modalities))
        notes.append(
            f"cases are of several modalities, {counts}, each a case of its own; take one kind with --images, or make "
            f"them channels of one case with {channels}"
        )
    return notes
