"""Warnings about an image, told by its header or values; ``inspect``, ``preprocess`` and ``predict`` all say them."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.dataset.cases import Case
from medseg.dataset.grid_mismatch import ROUNDED_SPACING
from medseg.dataset.spacing import shown_spacing
from medseg.errors import printable
from medseg.io.file_signature import content_mark
from medseg.io.nifti.header import NiftiHeader, read_nifti_header
from medseg.io.nrrd.reader import open_itk
from medseg.io.ome_zarr.reader import missing_chunks, open_ome_zarr
from medseg.io.picture.exif import UPRIGHT, orientation_of
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.transforms.extremes import find_extremes
from medseg.volume import GRID_TOLERANCE, SHEAR_TOLERANCE, Array, Geometry, Spacing3

NIFTI = ("nifti", "pair")  # kinds of sources whose header has codes

LOST_SPACING = "lost-spacing"
SAID_SPACING = "said-spacing"

SAY_SPACING = (
    "say what is true with --spacing X Y Z (mm), or in a cases.csv with a column 'spacing' (--spacing 1 1 1, where it "
    "is right); else volumes and distances are wrong, and networks learn less"
)

LONGEST_MM = 3000.0  # lengths in another unit
SHORTEST_MM = 1.0  # of the longest edge, where no unit is named: metres taken for mm

# Voxels of exactly 1×1×1 mm, which programs write that were told nothing, where that can hardly be. No scanner's field
# of view is as large in such voxels, or as flat: what is cut out of a head or resampled is less so.
SUSPICIOUS_SIZE = 400
LEAST_SIZE = 64  # of the longest axis, in voxels; small crops may have any shape
FLAT_AT_ORIGIN = 4  # the longest axis as a multiple of the shortest, where the first voxel lies at the origin too
FLAT = 10  # the same, wherever it lies

LOOK_AT_IT = "look at it; leave the case out, or convert its image again, where that is wrong"


@dataclass(frozen=True)
class ImageWarning:
    """What is hardly true of an image, and what to do about it.

    Attributes:
        rule: The kind of warning, as findings of ``inspect`` have it.
        path: The image.
        what: What is odd, in words.
        to_do: What to do about it.
        severity: Of ``inspect``; a note says what was made of it.
    """

    rule: str
    path: Path
    what: str
    to_do: str
    severity: Literal["warning", "note"] = "warning"  # of ``inspect``; a note says what was made of it

    def __str__(self) -> str:
        return f"{self.what}; {self.to_do}" if self.to_do else self.what


def value_warnings(path: Path, array: Array) -> Iterator[ImageWarning]:
    """Yields warnings about the values of an image: constant channels, and extreme values in the others.

    Args:
        path: The image.
        array: ``(channel, x, y, z)``.
    """
    for i, channel in enumerate(array):
        which = f"channel {i} " if len(array) > 1 else ""
        if channel.min() == channel.max():
            what = f"{which}is constant: all its voxels have the value {float(channel.min()):.4g}"
            yield ImageWarning("constant-image", path, what, LOOK_AT_IT)
        elif (extremes := find_extremes(channel)) is not None:
            to_do = "replace them; preprocess and predict clip them to that range"
            yield ImageWarning("extreme-values", path, f"{which}{extremes}", to_do)


def header_warnings(source: ImageSource, grid: Geometry) -> Iterator[ImageWarning]:
    """Yields warnings about what the header of an image says, or should say and doesn't.

    Args:
        source: The image.
        grid: Its grid, as it is read.

    Raises:
        SourceError: The file is damaged.
    """
    if source.kind == "image2d" and (orientation := orientation_of(source.path)) != UPRIGHT:
        what = f"is stored turned (EXIF orientation {orientation}), and read as viewers show it"
        yield ImageWarning("turned", source.path, what, "its label map has to be drawn on what they show", "note")
    if source.kind == "image2d" and grid.shape[2] == 1:
        return  # a picture has no place in a patient
    if source.kind == "itk":
        yield from _of_raw_header(source)
    if source.kind == "ome_zarr":
        yield from _of_ome_zarr(source)
    header = read_nifti_header(source.path) if source.kind in NIFTI else None
    oddities = [
        *_of_size(grid, header),
        *_of_spacing(source, grid, header),
        *(_of_place(header, _grid_of_header(source)) if header else ()),
    ]
    yield from (ImageWarning(rule, source.path, what, to_do) for rule, what, to_do in oddities)
    if header and header.unit not in ("mm", "unknown"):
        what = f"its header gives lengths in {header.unit}, which are converted to mm"
        yield ImageWarning("unit", source.path, what, "masks keep the unit of the file", "note")


def spacing_of_header(source: ImageSource) -> Spacing3:
    """Returns the voxel sizes that the header says (mm, in array-axis order), whatever the user says.

    Raises:
        SourceError: The file cannot be read.
    """
    return _grid_of_header(source).spacing


def _grid_of_header(source: ImageSource) -> Geometry:
    return read_geometry(replace(source, spacing=None))


def _of_raw_header(source: ImageSource) -> Iterator[ImageWarning]:
    """Yields what is odd about headers of NRRD and MetaImage."""
    header = open_itk(source.path)
    if source.path.name.lower().endswith(".seg.nrrd"):
        what = "is named as a segmentation, but names no segments: it is taken for an image"
        yield ImageWarning("no-segments", source.path, what, "write it again, or name it .nrrd")
    if header.unit != "mm":
        what = f"its header gives lengths in {printable(header.unit)}, which no program converts: they are taken for mm"
        yield ImageWarning("unit", source.path, what, "store it in mm, or say what is true with --spacing")
    if not header.has_place:
        what = (
            "its header does not say which way left and right are; it is taken for left-posterior-superior, as by ITK"
        )
        yield ImageWarning("no-place", source.path, what, "give it a space that says it, if it shows a patient", "note")


def _of_ome_zarr(source: ImageSource) -> Iterator[ImageWarning]:
    """Yields what is odd about an image in OME-Zarr: units that are not said, chunks that are not there."""
    opened = open_ome_zarr(source.path, source.part)
    for note in opened.image.notes:
        yield ImageWarning("unit", source.path, note, "write the unit, or say what is true with --spacing")
    if missing := missing_chunks(opened):
        yield ImageWarning("missing-chunks", source.path, missing, "copy it again where it was cut short")


def says_no_spacing(source: ImageSource, grid: Geometry) -> bool:
    """Says whether a header holds no more than programs write that were told nothing: 1×1×1 mm, at the origin."""
    if source.spacing is not None or not _is_unit(grid):
        return False
    is_placed = source.kind not in NIFTI or read_nifti_header(source.path).has_place
    return not is_placed or not grid.affine[:3, 3].any()


def copies_among(cases: Iterable[Case]) -> Iterator[tuple[ImageWarning, Case]]:
    """Yields the cases whose first image is that of a case before them, whatever the names of the files."""
    first: dict[Hashable, Case] = {}
    for case in cases:
        source = case.images[0]
        try:
            mark = content_mark(source.files[len(source.files) // 2])
        except OSError:  # it is told of when it is read
            continue
        known = first.setdefault((mark, source.frames, source.part), case)
        if known is not case:
            what = f"is a copy of the image of another case, {known.case_id}"
            to_do = "remove one: else a network may be tested on what it was trained on"
            yield ImageWarning("copy", source.path, what, to_do), case


def _of_size(grid: Geometry, header: NiftiHeader | None) -> Iterator[tuple[str, str, str]]:
    if grid.shear > SHEAR_TOLERANCE:
        angle = np.degrees(np.arcsin(min(grid.shear, 1.0)))
        what = f"its axes are not at right angles, but sheared by {angle:.1f}°"
        yield "sheared", what, "if the scanner was not tilted, correct the affine in its header"
    extent = max(n * spacing for n, spacing in zip(grid.shape, grid.spacing, strict=True))
    if extent > LONGEST_MM:
        yield "spacing", f"is {extent / 1000:.3g} m long", "check the spacing in its header: is it in mm?"
    if extent < SHORTEST_MM and (header is None or header.unit == "unknown"):
        what = f"its header names no unit of length; in mm, it is {extent:.2g} mm long"
        yield "unit", what, "if these are metres, say the spacing in mm with --spacing, or correct the header"


def _of_spacing(source: ImageSource, grid: Geometry, header: NiftiHeader | None) -> Iterator[tuple[str, str, str]]:
    """Yields lost millimetres, and those that are said and that a header contradicts."""
    if source.spacing is not None:
        by_header = spacing_of_header(source)
        if set(by_header) != {1.0} and not np.allclose(by_header, source.spacing, rtol=ROUNDED_SPACING, atol=0):
            said, written = shown_spacing(source.spacing), shown_spacing(by_header)
            what = f"its header gives voxels of {written} mm, where {said} mm is said and taken"
            yield SAID_SPACING, what, "where its header is right, say only that of the others, in a cases.csv"
    if source.spacing is not None or set(grid.spacing) != {1.0}:
        return
    why = _why_lost(source, grid, header)
    if why:
        what = f"its header gives voxels of exactly 1×1×1 mm, {why}: the spacing seems to be lost"
        yield LOST_SPACING, what, "export it again" if source.kind == "dicom" else SAY_SPACING


def _why_lost(source: ImageSource, grid: Geometry, header: NiftiHeader | None) -> str:
    """Returns why 1×1×1 mm can hardly be true; empty where they may well be."""
    at_origin = says_no_spacing(source, grid)
    shape, longest, shortest = "×".join(map(str, grid.shape)), max(grid.shape), min(grid.shape)
    if longest >= SUSPICIOUS_SIZE:
        return f"which is {longest} mm over {longest} voxels"
    if shortest == 1 or source.kind == "dicom":
        return ""  # one slice, or millimetres that a scanner wrote
    if header is not None and not header.has_place:
        return "and neither place nor directions"
    if longest >= LEAST_SIZE and longest >= (FLAT_AT_ORIGIN if at_origin else FLAT) * shortest:
        return f"which makes a slab of {shortest} mm of its {shape} voxels"
    if longest >= LEAST_SIZE and at_origin and header is not None and header.unit == "unknown":
        return "at the origin, and no unit of length, as a program writes that was told none of it"
    return ""


def _is_unit(grid: Geometry) -> bool:
    """Returns whether voxels are 1×1×1 mm, along the axes of the world."""
    return set(np.abs(grid.affine[:3, :3]).ravel().tolist()) <= {0.0, 1.0}


def _of_place(header: NiftiHeader, grid: Geometry) -> Iterator[tuple[str, str, str]]:
    if not header.has_place:
        why = "it is Analyze" if header.is_analyze else "sform_code and qform_code are 0"
        what = (
            f"its header says neither where it lies nor how it is turned ({why}): nothing tells its left from its right"
        )
        yield "no-place", what, "convert it again from the original"
    if header.sform is None or header.qform is None:
        yield from _of_voxel_sizes(header, grid)
        return
    try:
        apart = Geometry(grid.shape, header.sform).distance(Geometry(grid.shape, header.qform))
    except ValueError:  # one of the two cannot be inverted
        apart = float("inf")
    if apart > GRID_TOLERANCE * min(grid.spacing):
        what = f"sform and qform in its header lie {apart:.3g} mm apart, and programs differ in which they take"
        yield "two-places", what, "the sform is taken here; find out which is right, and set both to it"


def _of_voxel_sizes(header: NiftiHeader, grid: Geometry) -> Iterator[tuple[str, str, str]]:
    """Yields voxel sizes that differ: ITK scales the directions of an sform by pixdim."""
    sizes = (*header.spacing, *grid.spacing)[:3]
    apart = max(abs(a - b) * (n - 1) for a, b, n in zip(sizes, grid.spacing, grid.shape, strict=True))
    if header.sform is not None and apart > GRID_TOLERANCE * min(grid.spacing):
        what = f"voxel sizes by sform and pixdim in its header differ by {apart:.3g} mm over the image"
        yield (
            "two-places",
            what,
            "the sform is taken here, ITK takes pixdim; find out which is right, and set both to it",
        )
