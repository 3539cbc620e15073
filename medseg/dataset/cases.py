"""A case: the images of one examination, and the label map drawn on them, as found on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import Problem
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import counted, say, warn
from medseg.volume import Spacing3


@dataclass(frozen=True)
class LabelSource:
    """Where the label map of a case comes from.

    It is one file that holds label values, segmentations whose segments have names (DICOM SEG, RTSTRUCT,
    ``.seg.nrrd``), or a mask for each structure.
    """

    sources: tuple[ImageSource, ...]
    # The label value of each segment that is taken, by its name in the sources; None: the one source holds values and
    # has a grid of its own; empty: it holds values, in a picture for each slice of the image.
    values: Mapping[str, int] | None = None

    @property
    def path(self) -> Path:
        """The file of the first source."""
        return self.sources[0].path

    @property
    def is_of_structures(self) -> bool:
        """Whether each of the sources is the mask of one structure."""
        return all(source.structure for source in self.sources)


@dataclass(frozen=True)
class Case:
    """One input of the network. ``images`` has one source a channel (or one source with several channels)."""

    case_id: str
    images: tuple[ImageSource, ...]
    label: LabelSource | None = None
    # Cases of one group (a patient) are never on both sides of a split.
    group: str = ""
    # Names of the labels that were drawn where they are; None: all.
    annotated: tuple[str, ...] | None = None
    channels: tuple[str, ...] = ()  # what the layout calls each image, where it tells channels apart by name
    missing: tuple[int, ...] = ()  # channels of the model, counted from 0, that it has no image of
    objects: ImageSource | None = None  # the object map, where that is a file of its own

    @property
    def spacing(self) -> Spacing3 | None:
        """The spacing that the user says of its voxels, in mm; None where headers are to be believed."""
        return self.images[0].spacing


@dataclass(frozen=True)
class CaseSelection:
    """Which files of a source are images and label maps of cases, and what their segments are called.

    Attributes:
        images: A glob relative to the source that selects the images; several are the channels of one case, in this
            order. Images and label maps are paired by what their ``*`` match. Without ``labels``, it selects among what
            is found; without both, images that were computed from others are left out.
        labels: A glob that selects the label maps, which lie on the grid of the first channel.
        labelled: True when label maps are needed, False to ignore them, None to take them where there are any.
        rename: Gives the named segments of DICOM SEG, RTSTRUCT and ``.seg.nrrd``, by name or glob, the name of a label;
            ``""`` drops them.
        incomplete: Whether cases that miss channels are wanted too.
        instances: The names of labels whose objects are told apart; where dataset.json says it, none need be named.
    """

    images: str | Sequence[str] | None = None
    labels: str | None = None
    labelled: bool | None = None
    rename: Mapping[str, str] | None = None
    incomplete: bool = False
    instances: Sequence[str] = ()

    @property
    def globs(self) -> list[str]:
        """The globs of the images, one a channel; none where the layout is to be guessed."""
        return [self.images] if isinstance(self.images, str) else list(self.images or ())

    @property
    def options(self) -> list[str]:
        """The options of the command line that select the same cases."""
        options = [part for glob in self.globs for part in ("--images", glob)]
        options += [] if self.labels is None else ["--labels", self.labels]
        names = (self.rename or {}).items()
        options += [part for name, label in names for part in ("--rename", f"{name}={label}")]
        return [*options, *(part for name in self.instances for part in ("--instances", name))]


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Returns one name, or several, as names."""
    return (names,) if isinstance(names, str) else tuple(names)


@dataclass(frozen=True)
class CaseList:
    """What a layout found in a source."""

    layout: str  # in words, as shown to the user: "Medical Segmentation Decathlon (dataset.json)"
    cases: tuple[Case, ...]
    channels: tuple[str, ...]  # names, such as ("CT",) or ("T1", "FLAIR"); from dataset.json or DICOM where known
    labels: Labels | None = None  # None: names and values have to be read from the label maps
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what was decided, and what was left out on purpose
    doubts: tuple[str, ...] = ()  # what may be meant otherwise than it was taken: warnings

    @property
    def first_files(self) -> tuple[Path, ...]:
        """The files of the first case: of an archive, they lie where it was unpacked."""
        return tuple(image.files[0] for case in self.cases[:1] for image in case.images)

    def tell(self, source: str | Path, more: str = "") -> None:
        """Tells what was found in a source; ``more`` is added to the first line."""
        say(f"Found in {source}: {self.layout}; {counted(len(self.cases), 'case')}{more}")
        for note in self.notes:
            say(f"  {note}")
        for doubt in self.doubts:
            warn(doubt)
