"""Labels by the names of segments: one value for each name over a whole dataset, since the numbers of DICOM's segments
and regions of interest differ from patient to patient."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from medseg.dataset.cases import LabelSource
from medseg.errors import ConfigError, LabelError, MedsegError, did_you_mean
from medseg.io.read import segments_of
from medseg.io.segmentation import SegmentHeader
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.structures import Label
from medseg.terminology import PRIVATE, coding

Sources = Sequence[ImageSource]
MOST_SHOWN = 5


@dataclass
class NamedLabels:
    """What the segments of a dataset are called.

    ``labels`` and ``sources`` (by case key) fit each other; the cases in ``errors`` cannot be used.
    """

    labels: Labels
    sources: dict[str, LabelSource] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def name_labels(
    sources_by_case: Mapping[str, Sources],
    rename: Mapping[str, str],
    known: Labels | None = None,
    instances: Sequence[str] = (),
) -> NamedLabels:
    """Returns label values for the named segments of all cases.

    Names that differ by case, spaces and underscores only are one. Values are those of the ``known`` labels; otherwise
    the segments' own numbers where these are the same in all cases, else 1, 2, … in the order of the names.

    Args:
        sources_by_case: The segmentations of each case.
        rename: Gives names, or globs of names, another name; an empty one drops the segment; the first that fits is
            taken.
        known: Labels that keep their values, where dataset.json names some.
        instances: The names of labels whose objects are told apart; () for those of ``known``. Each segment is an
            object then: ``lesion 1`` and ``lesion 2`` are objects of ``lesion``. Where it is the only label, and no
            segment has a name that means a structure, all segments are its objects.

    Raises:
        ConfigError: A ``rename`` fits no segment.
        LabelError: One of ``instances`` is no label.
    """
    segments: dict[str, dict[ImageSource, list[SegmentHeader]]] = {}
    errors: dict[str, str] = {}
    for key, sources in sources_by_case.items():
        try:
            segments[key] = {source: list(segments_of(source)) for source in sources}
        except MedsegError as error:
            errors[key] = str(error)
    everything = [segment for case in segments.values() for of_source in case.values() for segment in of_source]
    instances = instances or (known.instances if known else ())
    naming = _Naming.of(everything, rename, known, instances)
    labels = (known or naming.labels(everything)).with_instances(instances)
    result = NamedLabels(labels, errors=errors, notes=naming.notes())
    values = dict(zip(map(plain_name, result.labels.names), result.labels.values, strict=True))
    for key, case in segments.items():
        try:
            chosen = dict(_chosen(case, naming, values))
            result.sources[key] = LabelSource(tuple(case), chosen)
        except LabelError as error:
            errors[key] = str(error)
    result.notes += _missing(result)
    return result


def plain_name(name: str) -> str:
    """Returns what is compared of a name: not its case, spaces and underscores."""
    return re.sub(r"[\s_]+", "", name).casefold()


@dataclass
class _Naming:
    """Which label each segment is; ``spellings``: how the names of each label are written, by their plain form."""

    rules: Mapping[str, str]
    spellings: dict[str, Counter[str]]
    numbered: Sequence[str] = ()  # labels whose segments may have numbers behind their names
    all_one: str = ""  # the label of every segment, where there is only one

    @classmethod
    def of(
        cls, segments: Sequence[SegmentHeader], rules: Mapping[str, str], known: Labels | None, instances: Sequence[str]
    ) -> "_Naming":
        """Counts how the names of the segments are spelled."""
        for pattern in rules:
            if not any(_fits(segment.name, pattern) for segment in segments):
                names = {segment.name for segment in segments}
                raise ConfigError(f"--rename '{pattern}': no segment has such a name{did_you_mean(pattern, names)}")
        naming = cls(rules, defaultdict(Counter), (*instances, *(known.names if known else ())))
        if instances and list(instances) == (known.names if known else list(instances)[:1]):
            names = {naming._renamed(segment.name) for segment in segments}
            if all(_means_nothing(name) and plain_name(name) != plain_name(instances[0]) for name in names):
                naming.all_one = instances[0]
        for segment in segments:
            name = naming._renamed(segment.name)
            naming.spellings[plain_name(name)][name] += 1
        for label in known.names if known else ():
            naming.spellings[plain_name(label)][label] += len(segments) + 1
        return naming

    def label_of(self, segment: SegmentHeader) -> str:
        """Returns the most usual spelling of its name; empty for a segment that is dropped."""
        counts = self.spellings[plain_name(self._renamed(segment.name))]
        return min(counts, key=lambda name: (-counts[name], name))

    def labels(self, segments: Iterable[SegmentHeader]) -> Labels:
        """Returns the labels of the segments."""
        grouped: dict[str, list[SegmentHeader]] = defaultdict(list)
        for segment in segments:
            if name := self.label_of(segment):
                grouped[name].append(segment)
        labels = Labels.from_names(_values(grouped))
        colours = [grouped[label.name][0].colour for label in labels.items]
        distinct = None not in colours and len(set(colours)) == len(colours)
        described = [
            _described(label, grouped[label.name], colour if distinct and colour else label.colour)
            for label, colour in zip(labels.items, colours, strict=True)
        ]
        return labels.model_copy(update={"items": tuple(described)})

    def notes(self) -> list[str]:
        """Returns a note for names that are taken as one label."""
        return [
            f"taken as one label: {', '.join(repr(name) for name in sorted(counts))}"
            for counts in self.spellings.values()
            if len(counts) > 1
        ]

    def _renamed(self, name: str) -> str:
        """Returns the label that a segment is by the rules, or by its number as an object; else its own name."""
        new = next((new for pattern, new in self.rules.items() if _fits(name, pattern)), None)
        if new is not None:
            return new
        if any(plain_name(name) == plain_name(label) for label in self.numbered):
            return name
        object_of = (label for label in self.numbered if _is_object_of(name, label))
        return next(object_of, self.all_one or name)


def _means_nothing(name: str) -> bool:
    return coding(name).type.scheme == PRIVATE


def _is_object_of(name: str, label: str) -> bool:
    """Returns whether a segment is called like a label with a number: ``Lesion 12``, ``lesion_12``, ``lesion-#12``."""
    return re.fullmatch(rf"{re.escape(plain_name(label))}[-.:#]*\d+", plain_name(name)) is not None


def _fits(name: str, pattern: str) -> bool:
    return plain_name(name) == plain_name(pattern) or fnmatchcase(plain_name(name), plain_name(pattern))


def _values(grouped: Mapping[str, Sequence[SegmentHeader]]) -> dict[str, int]:
    numbers = {name: {segment.number for segment in segments} for name, segments in grouped.items()}
    distinct = {number for several in numbers.values() for number in several}
    if all(len(several) == 1 for several in numbers.values()) and len(distinct) == len(numbers) and 0 not in distinct:
        return {name: next(iter(several)) for name, several in numbers.items()}
    return {name: value for value, name in enumerate(sorted(numbers, key=str.casefold), start=1)}


def _described(label: Label, segments: Sequence[SegmentHeader], colour: tuple[int, int, int]) -> Label:
    """Returns the label with the codes that all of its segments have in common."""
    codes = {(segment.category, segment.type, segment.modifier) for segment in segments}
    update: dict[str, object] = {"colour": colour}
    if len(codes) == 1 and segments[0].type is not None:
        update |= dict(zip(("category", "type", "modifier"), codes.pop(), strict=True))
    return label.model_copy(update=update)


def _chosen(
    case: Mapping[ImageSource, Sequence[SegmentHeader]], naming: _Naming, values: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Yields names in the sources with their label values.

    Raises:
        LabelError: Two sources outline one thing, or nothing is left of them.
    """
    outlined: dict[str, ImageSource] = {}
    for source, segments in case.items():
        for segment in segments:
            name = naming.label_of(segment)
            if not name:
                continue
            other = outlined.setdefault(plain_name(segment.name), source)
            if other != source:
                raise LabelError(
                    f"{source.path}: outlines '{segment.name}', as {other.path} does; keep one of the two, name it in "
                    f"a cases.csv, or drop the name with --rename '{segment.name}='"
                )
            if plain_name(name) not in values:
                raise LabelError(
                    f"{source.path}: '{segment.name}' is none of the labels in dataset.json; give it one of their "
                    f"names with --rename '{segment.name}=NAME', or none with '{segment.name}='"
                )
            yield segment.name, values[plain_name(name)]
    if not outlined:
        raise LabelError(f"{next(iter(case)).path}: no segment is left in it; was all of it dropped by --rename?")


def _missing(named: NamedLabels) -> Iterator[str]:
    """Yields a note when labels don't occur in all cases, as names that differ from patient to patient make it."""
    counts = Counter(value for source in named.sources.values() for value in set((source.values or {}).values()))
    n_cases = len(named.sources)
    rare = [
        f"{label.name} ({counts[label.value]} of {n_cases} cases)"
        for label in named.labels.items
        if counts[label.value] < n_cases
    ]
    if rare:
        more = f", … ({len(rare)})" if len(rare) > MOST_SHOWN else ""
        yield (
            f"not in all cases: {', '.join(rare[:MOST_SHOWN])}{more}; names that mean one structure become one label "
            "by --rename 'NAME=LABEL'"
        )
