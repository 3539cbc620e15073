"""Where a prediction and its reference differ most: slices in three planes, the outlines of both over the image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours

from medseg.labels import Labels
from medseg.report.display import displayed, window
from medseg.report.overlay import PLANES, Plane
from medseg.report.page import png
from medseg.structures import Colour
from medseg.volume import Array, Geometry, Volume

# What is seen around the masks, as part of their extent, and at least so many mm.
MARGIN = 0.35
LEAST_MARGIN_MM = 20.0

MISSED = (255, 196, 0, 150)  # RGBA
WRONG = (255, 64, 160, 150)

Box = tuple[slice, slice, slice]

# Cuts of the label maps and the mm of a pixel: what is laid over the picture.
Layers = Callable[[Sequence[Array], tuple[float, float]], tuple[Array, Iterable["Outline"]]]


@dataclass(frozen=True)
class Outline:
    """The edge of a label in a slice; ``path`` is that of SVG, in mm. ``of``: "prediction", "reference", or "method-0"
    and so on, whose name is ``by``."""

    of: str
    label: str
    colour: Colour
    path: str
    by: str = ""


@dataclass(frozen=True)
class ErrorSlice:
    """The slice of a plane with the most voxels that differ, here from the reference or between methods; a part of it
    around the masks."""

    plane: str
    number: int  # from 1
    n_slices: int
    n_wrong: int  # voxels
    width_mm: float
    height_mm: float
    edges: tuple[str, str, str, str]  # left, right, top, bottom: the patient's sides
    picture: str | None  # PNG as data URI
    errors: str  # likewise
    outlines: tuple[Outline, ...]


def error_slices(
    image: Volume | None, prediction: Array, reference: Array, grid: Geometry, labels: Labels
) -> tuple[ErrorSlice, ...]:
    """Of two label maps (x, y, z) on ``grid``, in the values of ``labels``, and the image on it, if there is one. One
    slice for each plane, or the only one of a picture.

    Without a difference, the slices with most of the reference.
    """
    maps = displayed(Volume(np.stack([prediction, reference]), grid))
    return tuple(_slices(image, maps, maps.array[0] != maps.array[1], partial(_error_layers, labels=labels)))


def disagreement_slices(
    image: Volume | None,
    predictions: Mapping[str, Array],
    reference: Array,
    grid: Geometry,
    labels: Labels,
    colours: Sequence[Colour],
) -> tuple[ErrorSlice, ...]:
    """Of the label maps of several methods, each in its own colour; likewise, by the voxels in which they differ from
    each other."""
    maps = displayed(Volume(np.stack([*predictions.values(), reference]), grid))
    differs = (maps.array[:-1] != maps.array[0]).any(axis=0)
    layers = partial(_method_layers, names=list(predictions), labels=labels, colours=colours)
    return tuple(_slices(image, maps, differs, layers))


def _slices(image: Volume | None, maps: Volume, differs: npt.NDArray[np.bool_], layers: Layers) -> Iterator[ErrorSlice]:
    """``differs`` says which voxels are looked for."""
    foreground = (maps.array != 0).any(axis=0)
    box = _around(foreground, maps.geometry)
    shown = None if image is None else _grey(displayed(image).array)
    shape, spacing = maps.geometry.shape, maps.geometry.spacing
    is_patient = min(shape) > 1
    for plane in PLANES:
        if shape[plane.column] == 1 or shape[plane.row] == 1:
            continue
        at = _fullest(differs if differs.any() else foreground, plane.across)
        mm = spacing[plane.row], spacing[plane.column]
        wrong = _cut(differs, plane, at, box)
        errors, outlines = layers([_cut(each, plane, at, box) for each in maps.array], mm)
        yield ErrorSlice(
            plane=plane.name if is_patient else "",
            number=at + 1,
            n_slices=shape[plane.across],
            n_wrong=int(np.count_nonzero(wrong)),
            width_mm=round(wrong.shape[1] * mm[1], 2),
            height_mm=round(wrong.shape[0] * mm[0], 2),
            edges=plane.edges if is_patient else ("", "", "", ""),
            picture=None if shown is None else png(_pixels(shown, plane, at, box)),
            errors=png(errors),
            outlines=tuple(outlines),
        )


def _error_layers(cuts: Sequence[Array], mm: tuple[float, float], *, labels: Labels) -> tuple[Array, Iterator[Outline]]:
    """Colours of the voxels that differ, and outlines, of a prediction and its reference."""
    predicted, referred = cuts
    return _errors(predicted, referred), _outlines(predicted, referred, mm, labels)


def _method_layers(
    cuts: Sequence[Array],
    mm: tuple[float, float],
    *,
    names: Sequence[str],
    labels: Labels,
    colours: Sequence[Colour],
) -> tuple[Array, Iterator[Outline]]:
    """Likewise, of several methods; the last cut is the reference's."""
    *predicted, referred = cuts
    pixels = np.zeros((*referred.shape, 4), np.uint8)
    pixels[(np.stack(predicted) != predicted[0]).any(axis=0)] = WRONG
    return pixels, _of_methods(predicted, referred, mm, names, labels, colours)


def _of_methods(
    predicted: Sequence[Array],
    referred: Array,
    mm: tuple[float, float],
    names: Sequence[str],
    labels: Labels,
    colours: Sequence[Colour],
) -> Iterator[Outline]:
    for label in labels.items:
        if (referred == label.value).any():
            yield Outline("reference", label.name, label.colour, outline(referred == label.value, mm))
        for i, (name, mask, colour) in enumerate(zip(names, predicted, colours, strict=True)):
            if (mask == label.value).any():
                yield Outline(f"method-{i}", label.name, colour, outline(mask == label.value, mm), name)


def _around(foreground: Array, grid: Geometry) -> Box:
    """A box with all of the foreground, and some of what is around."""
    if not foreground.any():
        return tuple(slice(0, n) for n in grid.shape)  # type: ignore[return-value]
    box = []
    for axis, mm in enumerate(grid.spacing):
        inside = np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = int(inside[0]), int(inside[-1]) + 1
        margin = round(max(MARGIN * (last - first), LEAST_MARGIN_MM / mm))
        box.append(slice(max(first - margin, 0), min(last + margin, grid.shape[axis])))
    return box[0], box[1], box[2]


def _fullest(mask: npt.NDArray[np.bool_], axis: int) -> int:
    return int(np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})).argmax())


def _cut(array: Array, plane: Plane, at: int, box: Box) -> Array:
    """(row, column) of an array (x, y, z)."""
    flat: Array = array.take(at, axis=plane.across).T
    return flat[box[plane.row], box[plane.column]]


def _grey(array: Array) -> Array:
    """Bytes (channel, x, y, z) of an image."""
    shown, black, white = window(array)
    grey = (np.nan_to_num(shown.astype(np.float32)) - black) / (white - black)
    return (grey.clip(0, 1) * 255).astype(np.uint8)


def _pixels(shown: Array, plane: Plane, at: int, box: Box) -> Array:
    return np.stack([_cut(channel, plane, at, box) for channel in shown], axis=-1).squeeze()


def _errors(predicted: Array, referred: Array) -> Array:
    """Colours of what was missed, and of what should not be there or is another label."""
    pixels = np.zeros((*predicted.shape, 4), np.uint8)
    pixels[(predicted != referred) & (predicted != 0)] = WRONG
    pixels[(predicted == 0) & (referred != 0)] = MISSED
    return pixels


def _outlines(predicted: Array, referred: Array, mm: tuple[float, float], labels: Labels) -> Iterator[Outline]:
    for label in labels.items:
        if (referred == label.value).any():
            yield Outline("reference", label.name, label.colour, outline(referred == label.value, mm))
        if (predicted == label.value).any():
            yield Outline("prediction", label.name, label.colour, outline(predicted == label.value, mm))


def outline(mask: Array, mm: tuple[float, float]) -> str:
    """The edge of a mask (row, column) of pixels this high and wide, as an SVG path in mm."""
    lines = find_contours(np.pad(mask.astype(np.float32), 1), 0.5)
    # Voxel centres are half a voxel from the edge of the picture, and the mask was padded by one.
    return "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for y, x in (line[:-1] - 0.5) * mm) + "Z" for line in lines)
