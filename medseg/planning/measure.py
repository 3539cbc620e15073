"""The fingerprint: what is measured on each case, and put together over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from medseg.errors import LabelError
from medseg.fingerprint import Fingerprint, Intensities
from medseg.transforms.extremes import find_extremes
from medseg.volume import Array, Geometry, Shape3, Spacing3, Volume, box_of

# Foreground voxels a case and channel from which intensities are measured (nnU-Net takes as many).
INTENSITIES_PER_CASE = 10_000


@dataclass(frozen=True)
class CaseMeasures:
    """What is measured on one case before anything is planned."""

    source_grid: Geometry
    shape: Shape3  # oriented and cropped
    spacing: Spacing3  # mm, oriented
    cropped_part: float
    intensities: npt.NDArray[np.float32]  # (channel, up to 10,000 voxels)
    voxels: dict[int, int]  # by value of the label map, background included, the ignore value not; empty without one
    annotated_part: float  # of the voxels: those without the ignore value


def measure(
    volume: Volume, label_map: Array | None, orientation: str, crop_to_nonzero: bool, ignore: int | None = None
) -> CaseMeasures:
    """Returns what is measured on one case.

    Args:
        volume: The image, ``(channel, x, y, z)``.
        label_map: ``(x, y, z)``, in the values of its file. None: intensities are measured everywhere.
        orientation: Of the model grid, as "RAS".
        crop_to_nonzero: Whether shapes are those of the box that holds all non-zero voxels.
        ignore: The value of voxels that nobody annotated.
    """
    oriented = volume.geometry.oriented_as(orientation)
    box = box_of((volume.array != 0).any(axis=0)) if crop_to_nonzero else None
    edges = volume.geometry.shape if box is None else volume.geometry.cropped(box).shape
    # Which array axis of the source became which axis of the oriented grid.
    order = np.abs(np.linalg.inv(volume.geometry.affine)[:3, :3] @ oriented.affine[:3, :3]).argmax(axis=0)
    x, y, z = (edges[axis] for axis in order)
    values = {} if label_map is None else dict(zip(*np.unique(label_map, return_counts=True), strict=True))
    voxels = {int(value): int(count) for value, count in values.items()}
    n_ignored = 0 if ignore is None else voxels.pop(ignore, 0)
    return CaseMeasures(
        source_grid=volume.geometry,
        shape=(x, y, z),
        spacing=oriented.spacing,
        cropped_part=float(np.prod(edges) / np.prod(volume.geometry.shape)),
        intensities=_intensities(volume.array, label_map, ignore),
        voxels=voxels,
        annotated_part=1 - n_ignored / prod(volume.geometry.shape),
    )


def fingerprint(cases: Sequence[CaseMeasures]) -> Fingerprint:
    """Returns the measures of all cases, put together.

    Args:
        cases: What ``measure`` gave.

    Raises:
        LabelError: No voxel of any case is labelled.
    """
    together = np.concatenate([case.intensities for case in cases], axis=1, dtype=np.float64)
    if not together.shape[1]:
        raise LabelError("no case has a labelled voxel, so that there is nothing to learn; add cases that have some")
    return Fingerprint(
        n_cases=len(cases),
        shapes=tuple(case.shape for case in cases),
        spacings=tuple(case.spacing for case in cases),
        cropped_part=float(np.median([case.cropped_part for case in cases])),
        intensities=tuple(
            Intensities(
                mean=float(channel.mean()),
                std=float(channel.std()),
                percentile_00_5=float(np.percentile(channel, 0.5)),
                percentile_99_5=float(np.percentile(channel, 99.5)),
            )
            for channel in together
        ),
    )


def _intensities(array: Array, label_map: Array | None, ignore: int | None) -> npt.NDArray[np.float32]:
    flat = array.reshape(len(array), -1)
    inside = np.arange(flat.shape[1])
    if label_map is not None:
        inside = np.flatnonzero(label_map if ignore is None else (label_map != 0) & (label_map != ignore))
    if len(inside) > INTENSITIES_PER_CASE:
        # A fixed seed: the fingerprint of the same data is the same.
        inside = np.random.default_rng(0).choice(inside, INTENSITIES_PER_CASE, replace=False)
    intensities = flat[:, inside].astype(np.float32)
    for channel in intensities:
        extremes = find_extremes(channel) if channel.size else None
        if extremes is not None:  # one voxel of 1e30 would decide the mean of all cases
            np.clip(channel, extremes.lowest, extremes.highest, out=channel)
    return intensities
