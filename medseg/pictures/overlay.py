"""A label map laid over its image: axial, coronal and sagittal, as radiologists look at them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke

from medseg.errors import GeometryError
from medseg.files import written_whole
from medseg.labels import Labels
from medseg.pictures.display import PLANES, Plane, displayed, fullest_slice, window
from medseg.structures import Label
from medseg.volume import Array, Volume

# White that is seen on white.
OUTLINED: list[AbstractPathEffect] = [withStroke(linewidth=2, foreground="black", alpha=0.7)]

INCHES_HIGH = 4.2
INCHES_WIDE = 12.0


def plot_overlay(
    image: Volume,
    label_map: Array,
    labels: Labels | Sequence[Label],
    output: Path,
    *,
    reference: Array | None = None,
    title: str = "",
) -> Path:
    """Draws a label map in its labels' colours over the image.

    Each plane is the one with the most foreground, in physical proportions.

    Args:
        image: Of several channels the first is shown, unless it is an RGB picture.
        label_map: ``(x, y, z)`` on the image's grid, in file values.
        labels: Names, values and colours; of objects what ``instances.object_structures.coloured`` gives for the label
            map.
        output: The picture to write.
        reference: ``(x, y, z)`` on the image's grid, in file values; its outline is drawn in white.
        title: Above the picture.

    Returns:
        The picture.

    Raises:
        GeometryError: A label map has another shape than the image.
        OutputError: The picture cannot be written.
    """
    figure = overlay_figure(image, label_map, labels, reference=reference, title=title)
    with written_whole(output) as temporary:
        figure.savefig(temporary, dpi=110, facecolor=figure.get_facecolor())
    return output


def overlay_figure(
    image: Volume,
    label_map: Array,
    labels: Labels | Sequence[Label],
    *,
    reference: Array | None = None,
    title: str = "",
) -> Figure:
    """Returns the picture of ``plot_overlay`` as a figure of matplotlib.

    Args:
        image: Of several channels the first is shown, unless it is an RGB picture.
        label_map: ``(x, y, z)`` on the image's grid, in file values.
        labels: As there.
        reference: ``(x, y, z)`` on the image's grid, in file values; its outline is drawn in white.
        title: Above the picture.

    Raises:
        GeometryError: A label map has another shape than the image.
    """
    items = labels.items if isinstance(labels, Labels) else labels
    maps = [label_map] if reference is None else [label_map, reference]
    for each in maps:
        if each.shape != image.geometry.shape:
            raise GeometryError(f"a label map of {each.shape} cannot lie on an image of {image.geometry.shape}")
    shown, black, white = window(displayed(image).array)
    masks = displayed(Volume(np.stack(maps), image.geometry))
    foreground = np.logical_or.reduce(masks.array != 0)
    centre = [fullest_slice(foreground, axis) for axis in range(3)]
    shape, spacing = masks.geometry.shape, masks.geometry.spacing
    planes = [plane for plane in PLANES if shape[plane.column] > 1 and shape[plane.row] > 1]
    extent = np.multiply(shape, spacing)
    figure, panels = _panels([(extent[plane.column], extent[plane.row]) for plane in planes])
    for plane, axes in zip(planes, panels, strict=True):
        picture = _picture(shown, plane, centre)
        axes.imshow(np.squeeze(picture), cmap="gray", vmin=black, vmax=white, interpolation="bilinear")
        values = _picture(masks.array, plane, centre)
        _fill(axes, values[..., 0], items)
        if reference is not None:
            _outline(axes, values[..., 1], items)
        axes.set_aspect(spacing[plane.row] / spacing[plane.column])
        _annotate(axes, plane, patient=min(shape) > 1)
    present = [label for label in items if (masks.array == label.value).any()]
    _add_legend(figure, present, reference is not None, title)
    return figure


def _picture(array: Array, plane: Plane, centre: list[int]) -> Array:
    """Returns ``(row, column, channel)`` of an array ``(channel, x, y, z)`` in ``DISPLAY``."""
    flat: Array = array.take(centre[plane.across], axis=plane.across + 1)
    return flat.transpose(2, 1, 0)


def _panels(sizes_mm: list[tuple[float, float]]) -> tuple[Figure, list[Axes]]:
    """Returns axes side by side, all in one scale (mm per inch)."""
    widths = [width for width, _ in sizes_mm]
    ratio = sum(widths) / max(height for _, height in sizes_mm)
    width = min(INCHES_WIDE, INCHES_HIGH * ratio)
    figure = Figure(figsize=(width + 0.4, width / ratio + 0.8), facecolor="black", layout="constrained")
    panels = figure.subplots(1, len(sizes_mm), width_ratios=widths, squeeze=False)
    return figure, list(panels[0])


def _fill(axes: Axes, values: Array, items: Sequence[Label]) -> None:
    filled = np.zeros((*values.shape, 4))
    for label in items:
        mask = values == label.value
        if mask.any():
            filled[mask] = (*_rgb(label), 0.35)
            axes.contour(mask, levels=[0.5], colors=[_rgb(label)], linewidths=1.5)
    axes.imshow(filled, interpolation="nearest")


def _outline(axes: Axes, values: Array, items: Sequence[Label]) -> None:
    for label in items:
        mask = values == label.value
        if mask.any():
            lines = axes.contour(mask, levels=[0.5], colors="white", linewidths=1.0, linestyles="dashed")
            lines.set_path_effects(OUTLINED)


def _rgb(label: Label) -> tuple[float, float, float]:
    red, green, blue = label.colour
    return red / 255, green / 255, blue / 255


def _annotate(axes: Axes, plane: Plane, *, patient: bool) -> None:
    """Takes the ticks away, and says where the patient's sides are."""
    axes.set_axis_off()
    if not patient:
        return
    axes.set_title(plane.name, color="white", fontsize=10)
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, horizontal, vertical) in zip(plane.edges, places, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, color="white", ha=horizontal, va=vertical)
        text.set_path_effects(OUTLINED)


def _add_legend(figure: Figure, labels: Sequence[Label], has_reference: bool, title: str) -> None:
    first = {label.name: label for label in reversed(labels)}  # objects have several colours under one name
    named = [label for label in labels if first[label.name] is label]
    handles: list[Patch | Line2D] = [Patch(color=_rgb(label), label=label.name) for label in named]
    if has_reference:
        handles.append(Line2D([], [], color="white", linestyle="dashed", linewidth=1.0, label="reference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, labelcolor="white")
    if title:
        figure.suptitle(title, color="white")
