"""One image of a source (a DICOM series or a volume of one, a NIfTI file, a picture), or one segmentation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from medseg.dataset.cases import Case
from medseg.dataset.image_warnings import SAID_SPACING, header_warnings, spacing_of_header, value_warnings
from medseg.dataset.prepared_json import StoredGrid
from medseg.dataset.reading import read_images
from medseg.dataset.spacing import shown_spacing
from medseg.errors import MedsegError
from medseg.inspection.finding import Finding, doubtful, told
from medseg.inspection.repair import Respace
from medseg.io.archives import origin
from medseg.io.dicom.examination import Examination, read_examination
from medseg.io.nifti.header import NiftiHeader, read_nifti_header
from medseg.io.ome_zarr.reader import open_ome_zarr
from medseg.io.read import check_whole, read_geometry, read_volume, segments_of
from medseg.io.source import ImageSource, SegmentationKind
from medseg.records import Record
from medseg.transforms.intensities import Floats, quantiles
from medseg.volume import GRID_TOLERANCE, Geometry

# unused: of no case.
Role = Literal["image", "label map", "unused"]

DICOM = ("dicom", "dicom_seg", "rtstruct")
FORMATS = {
    "nifti": "NIfTI",
    "ome_zarr": "OME-Zarr",
    "pair": "hdr/img",
    "image2d": "picture",
    "pictures": "pictures",
    "dicom_seg": "SEG",
    "rtstruct": "RTSTRUCT",
    "coco": "COCO JSON",
    "seg_nrrd": "seg.nrrd",
}


class SeriesRecord(Record):
    """An image or a segmentation, as ``medseg inspect --json`` prints it.

    Attributes:
        path: The file, or the folder of a DICOM series.
        role: "image", "label map" or "unused": what a case takes it for.
        case_id: Its case; empty where it is of none.
        format: The modality of images in DICOM, else the kind of file.
        modality: Of DICOM.
        description: Of DICOM.
        part: Which volume it is, where its files hold several.
        series_uid: Of DICOM.
        n_files: Files that it consists of.
        n_channels: Of its voxels.
        grid: Where its voxels lie; None for contours, and for what cannot be read.
        values: The lowest and the highest value, where voxels were read.
        segments: Names, where it is a segmentation.
        odd: What is odd about it, in sentences.
    """

    path: str
    role: Role
    case_id: str
    format: str
    modality: str
    description: str
    part: str
    series_uid: str
    n_files: int
    n_channels: int
    grid: StoredGrid | None
    values: tuple[float | None, float | None] | None
    segments: tuple[str, ...]
    odd: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """An image or a segmentation, and what its headers say.

    ``grid`` is None for what cannot be read, and for contours, which have none. ``values`` are the lowest and the
    highest one, where voxels were read; ``segments`` the names in a segmentation.
    """

    source: ImageSource
    grid: Geometry | None = None
    has_place: bool = True  # False where a header has voxel sizes alone
    takes_place: bool = False  # whether the header of the file can be given another place
    n_channels: int = 1
    values: tuple[float, float] | None = None
    quantiles: tuple[Floats, ...] = ()  # of these values, one a channel
    segments: tuple[str, ...] = ()
    examination: Examination = field(default_factory=Examination)
    findings: tuple[Finding, ...] = ()
    role: Role = "unused"
    case_id: str = ""

    @property
    def name(self) -> str:
        """The name for the user: SeriesDescription, else that of the file, and which of several volumes in it."""
        description = self.source.description or self.source.path.name
        return f"{description} ({self.source.part})" if self.source.part else description

    @property
    def format(self) -> str:
        """The modality of images in DICOM, else the kind of file."""
        kind, suffix = self.source.kind, self.source.path.suffix[1:].upper()
        return FORMATS.get(kind, self.source.modality if kind == "dicom" else suffix)

    @property
    def oddities(self) -> Iterator[str]:
        """What is odd about the image, in words."""
        if self.source.derived:
            yield self.source.derived
        if self.n_channels > 1:
            yield f"{self.n_channels} channels"
        yield from (finding.what for finding in self.findings)

    def as_record(self) -> SeriesRecord:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        source = self.source
        low, high = (value if math.isfinite(value) else None for value in self.values or (0.0, 0.0))
        return SeriesRecord(
            path=str(origin(source.path)),
            role=self.role,
            case_id=self.case_id,
            format=self.format,
            modality=source.modality,
            description=source.description,
            part=source.part,
            series_uid=source.series_uid,
            n_files=len(set(source.files)),
            n_channels=self.n_channels,
            grid=None if self.grid is None else StoredGrid(**self.grid.as_json()),
            values=None if self.values is None else (low, high),
            segments=self.segments,
            odd=tuple(self.oddities),
        )


def edges(of_grids: Sequence[tuple[float, float, float]]) -> str:
    """Returns voxels or spacings of one or several grids: ``"512×512×20–31"``, ``"0.977×0.977×3–5"``; empty for
    none."""
    written = [
        [f"{edge:.3g}" if isinstance(edge, float) else str(edge) for edge in along]
        for along in zip(*of_grids, strict=True)
    ]
    ranges = [(min(along, key=float), max(along, key=float)) for along in written]
    return "×".join(low if low == high else f"{low}–{high}" for low, high in ranges)


def look_at(source: ImageSource, *, voxels: bool = False) -> Series:
    """Returns what headers say of an image, and with ``voxels`` also whether all of them can be read. It runs in a
    worker."""
    examination = read_examination(source.files[0]) if source.kind in DICOM else Examination()
    notes = tuple(Finding("warning", "odd-series", source.path, *told(note, source.path)) for note in source.notes)
    series = Series(source, examination=examination, findings=notes)
    try:
        if source.kind in get_args(SegmentationKind):
            return replace(series, segments=tuple(segment.name for segment in segments_of(source)))
        if source.kind == "pictures":
            return series
        return _measured(series, voxels)
    except MedsegError as error:
        damaged = Finding("problem", "unreadable", source.path, *told(str(error), source.path))
        return replace(series, findings=(*notes, damaged))


def _measured(series: Series, voxels: bool) -> Series:
    source = series.source
    grid = read_geometry(source)
    header = read_nifti_header(source.path) if source.kind in ("nifti", "pair") else None
    placed = replace(
        series,
        grid=grid,
        has_place=header is None or header.has_place,
        takes_place=header is not None and not header.is_analyze,
        findings=(*series.findings, *_doubtful(source, grid, header)),
        segments=(source.structure,) if source.structure else (),
    )
    if voxels:
        array = read_images(Case("", (source,)), GRID_TOLERANCE).array
        return replace(
            placed,
            n_channels=len(array),
            values=(float(array.min()), float(array.max())),
            quantiles=tuple(quantiles(channel) for channel in array),
            findings=(*placed.findings, *map(doubtful, value_warnings(source.path, array))),
        )
    if source.kind == "ome_zarr":
        opened = open_ome_zarr(source.path, source.part)
        return replace(placed, n_channels=opened.n_channels)
    check_whole(source)
    if source.kind in ("image2d", "itk"):
        return replace(placed, n_channels=len(read_volume(source).array))
    return replace(placed, n_channels=header.n_channels if header else 1)


def _doubtful(source: ImageSource, grid: Geometry, header: NiftiHeader | None) -> Iterator[Finding]:
    """Yields what is doubtful in a header, and what ``--fix`` can write into it since the user said it."""
    can_be_said = header is not None and not header.is_analyze and source.spacing is not None
    respace = Respace(source.spacing) if can_be_said and source.spacing is not None else None
    doubts = list(header_warnings(source, grid))
    for doubt in doubts:
        yield replace(doubtful(doubt), repair=respace if doubt.rule == SAID_SPACING else None)
    if (
        respace
        and not any(doubt.rule == SAID_SPACING for doubt in doubts)
        and spacing_of_header(source) != grid.spacing
    ):
        what = f"its voxels are said to be {shown_spacing(grid.spacing)} mm, which its header does not know"
        yield Finding("note", SAID_SPACING, source.path, what, "--fix writes it into the header", repair=respace)
