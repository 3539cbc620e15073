"""Patches as a network gets them, drawn with the outlines of their labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.labels import IGNORED, Labels
from medseg.report.page import png
from medseg.report.slices import Outline, outline
from medseg.volume import Array

DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles


@dataclass(frozen=True)
class PatchPicture:
    """The slice of a patch with most of its labels, first channel.

    Attributes:
        case_id: Of the case that the patch is from.
        width_mm: Of the picture.
        height_mm: Of the picture.
        picture: PNG as data URI.
        outlines: Of its labels.
    """

    case_id: str
    width_mm: float
    height_mm: float
    picture: str
    outlines: tuple[Outline, ...]


def patch_pictures(
    images: Array, label_maps: Array, case_ids: Sequence[str], spacing: Sequence[float], labels: Labels
) -> Iterator[PatchPicture]:
    """Yields a picture for each patch.

    Args:
        images: ``(patch, channel, *spatial)``, axes in RAS.
        label_maps: ``(patch, 1, *spatial)`` in network values.
        case_ids: Of the cases that the patches are from.
        spacing: In mm, of the two or three axes.
        labels: Names and colours.
    """
    for image, (label_map,), case_id in zip(images, label_maps, case_ids, strict=True):
        flat, mask = image[0], np.where(label_map == IGNORED, 0, label_map)
        if mask.ndim > 2:
            at = int(np.count_nonzero(mask, axis=(0, 1)).argmax()) if mask.any() else mask.shape[2] // 2
            flat, mask = flat[..., at], mask[..., at]
        flat, mask = flat[::-1, ::-1].T, mask[::-1, ::-1].T  # (row, column), the patient's right on the left
        mm = float(spacing[1]), float(spacing[0])
        yield PatchPicture(
            case_id,
            round(mask.shape[1] * mm[1], 2),
            round(mask.shape[0] * mm[0], 2),
            png(_bytes(flat)),
            tuple(
                Outline("prediction", label.name, label.colour, outline(np.equal(mask, value), mm))
                for value, label in enumerate(labels.items, start=1)
                if (mask == value).any()
            ),
        )


def _bytes(values: Array) -> Array:
    low, high = np.percentile(values, (DARKEST, BRIGHTEST))
    grey: Array = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * 255
    return grey.astype(np.uint8)
