"""Where a prediction and its reference differ most: slices in three planes, the outlines of both over the image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from medseg.labels import Labels
from medseg.pictures.display import PLANES, Plane, displayed, fullest_slice, grey
from medseg.report.page import png
from medseg.structures import Colour, Label
from medseg.volume import Array, Box, Geometry, Volume, box_of

# What is seen around the masks, as part of their extent, and at least so many mm.
MARGIN = 0.35
LEAST_MARGIN_MM = 20.0

MISSED = (255, 196, 0, 150)  # RGBA
WRONG = (255, 64, 160, 150)


# Cuts of the label maps and the mm of a pixel: what is laid over the picture.
Layers = Callable[[Sequence[Array], tuple[float, float]], tuple[Array, Iterable["Outline"]]]


@dataclass(frozen=True)
class Outline:
    """The edge of a label in a slice.

    Attributes:
        of: "prediction", "reference", or "method-0" and so on.
        label: Its name.
        colour: Of the line.
        path: That of SVG, in mm.
        by: The name of the method.
    """

    of: str
    label: str
    colour: Colour
    path: str
    by: str = ""


@dataclass(frozen=True)
class ErrorSlice:
    """The slice of a plane with the most voxels that differ, from the reference or between methods; a part around the
    masks.

    Attributes:
        plane: Its name; empty for a picture.
        number: Of the slice, from 1.
        n_slices: How many there are.
        n_wrong: Voxels that differ.
        width_mm: Of the picture.
        height_mm: Of the picture.
        edges: The patient's sides at the left, right, top and bottom.
        picture: PNG as data URI; None without an image.
        errors: The voxels that differ, PNG as data URI.
        outlines: Of the labels.
    """

    plane: str
    number: int
    n_slices: int
    n_wrong: int
    width_mm: float
    height_mm: float
    edges: tuple[str, str, str, str]
    picture: str | None
    errors: str
    outlines: tuple[Outline, ...]


# A label map for pictures, and what its values are.
Shown = tuple[Array, Sequence[Label]]


def error_slices(
    image: Volume | None,
    prediction: Array,
    reference: Array,
    grid: Geometry,
    labels: Labels,
    outlined: tuple[Shown, Shown] | None = None,
) -> tuple[ErrorSlice, ...]:
    """Returns the slices in which a prediction and its reference differ most, one for each plane.

    Of a picture there is only one. Without a difference, these are the slices with most of the reference.

    Args:
        image: On the same grid; None without one.
        prediction: ``(x, y, z)`` in the values of ``labels``.
        reference: ``(x, y, z)`` in the values of ``labels``.
        grid: Of both.
        labels: Names, values and colours.
        outlined: What is outlined of the prediction and of the reference, where that is not each label; as
            ``instances.object_structures.coloured`` gives it.
    """
    (predicted, of_prediction), (referred, of_reference) = outlined or (
        (prediction, labels.items),
        (reference, labels.items),
    )
    maps = displayed(Volume(np.stack([prediction, reference, predicted, referred]), grid))
    layers = partial(_error_layers, of_prediction=of_prediction, of_reference=of_reference)
    return tuple(_slices(image, maps, maps.array[0] != maps.array[1], layers))


def disagreement_slices(
    image: Volume | None,
    predictions: Mapping[str, Array],
    reference: Array,
    grid: Geometry,
    labels: Labels,
    colours: Sequence[Colour],
) -> tuple[ErrorSlice, ...]:
    """Returns the slices in which the label maps of several methods differ most from each other, each in its own
    colour.

    Args:
        image: On the same grid; None without one.
        predictions: ``(x, y, z)`` in the values of ``labels``, by method.
        reference: ``(x, y, z)`` in the values of ``labels``.
        grid: Of all of them.
        labels: Names, values and colours.
        colours: Of the methods.
    """
    maps = displayed(Volume(np.stack([*predictions.values(), reference]), grid))
    differs = (maps.array[:-1] != maps.array[0]).any(axis=0)
    layers = partial(_method_layers, names=list(predictions), labels=labels, colours=colours)
    return tuple(_slices(image, maps, differs, layers))


def _slices(image: Volume | None, maps: Volume, differs: npt.NDArray[np.bool_], layers: Layers) -> Iterator[ErrorSlice]:
    """Yields a slice for each plane: that with most of the voxels that ``differs`` says."""
    foreground = (maps.array != 0).any(axis=0)
    box = _around(foreground, maps.geometry)
    shown = None if image is None else grey(displayed(image).array)
    shape, spacing = maps.geometry.shape, maps.geometry.spacing
    is_patient = min(shape) > 1
    for plane in PLANES:
        if shape[plane.column] == 1 or shape[plane.row] == 1:
            continue
        at = fullest_slice(differs if differs.any() else foreground, plane.across)
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


def _error_layers(
    cuts: Sequence[Array],
    mm: tuple[float, float],
    *,
    of_prediction: Sequence[Label],
    of_reference: Sequence[Label],
) -> tuple[Array, Iterator[Outline]]:
    """Returns the colours of the voxels that differ, and outlines, of a prediction and its reference."""
    predicted, referred, shown, shown_reference = cuts
    sides = _outlines("reference", shown_reference, mm, of_reference), _outlines("prediction", shown, mm, of_prediction)
    return _errors(predicted, referred), chain(*sides)


def _method_layers(
    cuts: Sequence[Array],
    mm: tuple[float, float],
    *,
    names: Sequence[str],
    labels: Labels,
    colours: Sequence[Colour],
) -> tuple[Array, Iterator[Outline]]:
    """Returns the colours of the voxels that differ, and outlines, of several methods; the last cut is the
    reference's."""
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
    """Returns a box with all of the foreground, and some of what is around."""
    box = []
    for part, mm, n in zip(box_of(foreground) or grid.box, grid.spacing, grid.shape, strict=True):
        margin = round(max(MARGIN * (part.stop - part.start), LEAST_MARGIN_MM / mm))
        box.append(slice(max(part.start - margin, 0), min(part.stop + margin, n)))
    return box[0], box[1], box[2]


def _cut(array: Array, plane: Plane, at: int, box: Box) -> Array:
    """Returns (row, column) of an array (x, y, z)."""
    flat: Array = array.take(at, axis=plane.across).T
    return flat[box[plane.row], box[plane.column]]


def _pixels(shown: Array, plane: Plane, at: int, box: Box) -> Array:
    return np.stack([_cut(channel, plane, at, box) for channel in shown], axis=-1).squeeze()


def _errors(predicted: Array, referred: Array) -> Array:
    """Returns the colours of what was missed, and of what should not be there or is another label."""
    pixels = np.zeros((*predicted.shape, 4), np.uint8)
    pixels[(predicted != referred) & (predicted != 0)] = WRONG
    pixels[(predicted == 0) & (referred != 0)] = MISSED
    return pixels


def _outlines(of: str, values: Array, mm: tuple[float, float], items: Sequence[Label]) -> Iterator[Outline]:
    for label in items:
        if (values == label.value).any():
            yield Outline(of, label.name, label.colour, outline(values == label.value, mm))


def outline(mask: Array, mm: tuple[float, float]) -> str:
    """Returns the edge of a mask as an SVG path in mm.

    Args:
        mask: Boolean ``(row, column)``.
        mm: How high and how wide a pixel is.
    """
    from skimage.measure import find_contours  # takes long to import

    lines = find_contours(np.pad(mask.astype(np.float32), 1), 0.5)
    # Voxel centres are half a voxel from the edge of the picture, and the mask was padded by one.
    return "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for y, x in (line[:-1] - 0.5) * mm) + "Z" for line in lines)
