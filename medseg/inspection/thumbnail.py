"""A small picture of an image: its middle slice, or the one with most of its labels, as radiologists look at it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medseg.dataset.cases import Case
from medseg.dataset.reading import read_label_map
from medseg.io.read import read_volume
from medseg.io.source import ImageSource
from medseg.pictures.display import displayed, grey
from medseg.report.page import as_uri
from medseg.structures import Colour
from medseg.volume import GRID_TOLERANCE, Array, Volume

LONGEST_EDGE = 240  # pixels
OPACITY = 0.5

# Colours of a picture with labels, which make its file three times smaller than true colour does.
PALETTE = 64

NEARLY = 0.8

# A slice this much thicker than its pixels was acquired as such and is shown; else an axial one is.
THICK = 1.5


@dataclass(frozen=True)
class Subject:
    """What to take a picture of; ``colours`` by label value."""

    image: ImageSource
    case: Case | None  # whose label map is laid over it, where the image is its first
    colours: Mapping[int, Colour]


def thumbnail(subject: Subject) -> str:
    """Returns a PNG file as a data URI. It runs in a worker, and raises what reading raises."""
    volume = read_volume(subject.image if subject.case else _middle(subject.image))
    shown = displayed(volume)
    axis = _across(shown)
    at = shown.geometry.shape[axis] // 2
    labelled = None
    if subject.case is not None:
        label_map = read_label_map(subject.case, volume.geometry, GRID_TOLERANCE).array
        label_map = np.where(np.isin(label_map, list(subject.colours)), label_map, 0)  # not what is ignored
        labelled = displayed(Volume(label_map[None], volume.geometry)).array
        at = _fullest(labelled[0], axis)
    picture = grey(shown.array.take([at], axis=axis + 1))
    if labelled is not None:
        picture = _coloured(picture, labelled.take([at], axis=axis + 1), subject.colours)
    spacing = np.delete(shown.geometry.spacing, axis)
    pixels = picture.squeeze(axis + 1).transpose(2, 1, 0)
    return _as_uri(Image.fromarray(pixels.squeeze()), pixels.shape[1] * spacing[0], pixels.shape[0] * spacing[1])


def _middle(source: ImageSource) -> ImageSource:
    """Returns one slice of a DICOM series, so that the others need not be read."""
    if source.kind != "dicom":
        return source
    middle = len(source.files) // 2
    return replace(source, files=source.files[middle : middle + 1], frames=source.frames[middle : middle + 1])


def _across(volume: Volume) -> int:
    """Returns the array axis to look along."""
    spacing, shape = volume.geometry.spacing, volume.geometry.shape
    if 1 in shape:
        return shape.index(1)
    thickest = int(np.argmax(spacing))
    return thickest if spacing[thickest] > THICK * min(spacing) else 2


def _fullest(label_map: Array, axis: int) -> int:
    """Returns of the slices with nearly as much labelled as any the one with most labels; the middle one without
    any."""
    counts = np.count_nonzero(label_map, axis=tuple({0, 1, 2} - {axis}))
    if not counts.any():
        return len(counts) // 2
    full = [i for i, count in enumerate(counts) if count >= NEARLY * counts.max()]
    n_labels = {i: len(np.unique(label_map.take(i, axis)[::2, ::2])) for i in full}
    return max(full, key=lambda i: (n_labels[i], int(counts[i])))


def _coloured(image: Array, labels: Array, colours: Mapping[int, Colour]) -> Array:
    picture = np.broadcast_to(image, (3, *image.shape[1:])).astype(np.float32)
    for value, colour in colours.items():
        mask = labels[0] == value
        picture[:, mask] = (1 - OPACITY) * picture[:, mask] + OPACITY * np.array(colour, np.float32)[:, None]
    return picture.astype(np.uint8)


def _as_uri(picture: Image.Image, width_mm: float, height_mm: float) -> str:
    scale = LONGEST_EDGE / max(width_mm, height_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if picture.mode == "RGB":
        picture = picture.quantize(PALETTE)
    return as_uri(picture)
