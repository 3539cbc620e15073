"""A label map that should lie on the grid of its image, and does not."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from medseg.inspection.finding import Finding, Severity
from medseg.inspection.repair import Place
from medseg.inspection.series import Series
from medseg.volume import GRID_TOLERANCE, Geometry

# Parts of the smallest voxel edge. Below the first, headers differ by no more than floating-point numbers do; up to the
# second they were rounded, as no voxel's centre lies in another voxel; beyond it something was moved.
SAME = 1e-4
ROUNDED = 0.5

# How far voxel sizes may be rounded for two files to be of one image.
SPACING_TOLERANCE = 0.01

MIRRORED_ALONG = ("left and right", "front and back", "top and bottom")


def grid_findings(image: Series, label: Series, case_id: str) -> Iterator[Finding]:
    """How the grid of a label map differs from that of its image, and the repair where it was rounded or lost."""
    if image.grid is None or label.grid is None:
        return
    if image.has_place != label.has_place and image.grid.shape == label.grid.shape:
        lost, placed = (label, image) if image.has_place else (image, label)
        yield _lost(lost, placed, case_id, _severity(image.grid, label.grid))
        return
    upright = image.grid.oriented_as(label.grid.orientation)
    sides = _mirrored_sides(image.grid, label.grid)
    if upright.shape == label.grid.shape and (apart := upright.distance(label.grid)) <= ROUNDED * min(upright.spacing):
        if apart > SAME * min(upright.spacing):
            what = f"lies {apart:.2g} mm off the grid of its image, by a rounded header"
            to_do = "--fix gives it the exact place of its image"
            repair = Place(upright, image.source.path) if label.source.kind == "nifti" else None
            severity = _severity(upright, label.grid)
            yield Finding(severity, "grid-rounded", label.source.path, what, to_do, case_id, repair)
    elif sides:
        what = f"is a mirror image of its image: {sides} are swapped in one of the two headers"
        to_do = "look at both in a viewer, find out which is right, and write the other one again"
        yield Finding("problem", "mirrored", label.source.path, what, to_do, case_id)
    else:
        what = f"does not lie on the grid of its image: {upright.difference(label.grid)}{_permuted(image, label)}"
        to_do = "was it drawn on this image? If so, 'medseg export MASK -o FILE --like IMAGE' brings it there"
        yield Finding("problem", "grid-differs", label.source.path, what, to_do, case_id)


def _severity(image: Geometry, label: Geometry) -> Severity:
    """As ``preprocess`` decides."""
    upright = image.oriented_as(label.orientation)
    return "problem" if upright.difference(label, GRID_TOLERANCE) else "note"


def _lost(lost: Series, placed: Series, case_id: str, severity: Severity) -> Finding:
    path, geometry = lost.source.path, placed.grid
    what = f"its header does not say how it is turned and where it lies, unlike that of {placed.source.path.name}"
    if lost.source.kind == "nifti" and geometry is not None and _may_be_of(lost, geometry):
        to_do = "--fix copies it from there, since the voxels are as many, in each direction"
        repair = Place(geometry, placed.source.path)
        return Finding(severity, "lost-place", path, what, to_do, case_id, repair)
    return Finding(severity, "lost-place", path, what, "write it again with the place of the image", case_id)


def _may_be_of(lost: Series, geometry: Geometry) -> bool:
    """Whether voxel sizes agree, or are lost too."""
    spacing = lost.grid.spacing if lost.grid else (1.0, 1.0, 1.0)
    return set(spacing) == {1.0} or np.allclose(spacing, geometry.spacing, rtol=SPACING_TOLERANCE, atol=0)


def _mirrored_sides(image: Geometry, label: Geometry) -> str:
    """Which sides differ between two affines that are otherwise equal, as when LPS is taken for RAS; else empty."""
    if image.shape != label.shape:
        return ""
    for signs in product((1, -1), repeat=3):
        mirrored = Geometry(image.shape, np.diag([*signs, 1.0]) @ image.affine)
        if -1 in signs and mirrored.distance(label) <= ROUNDED * min(image.spacing):
            return ", ".join(side for side, sign in zip(MIRRORED_ALONG, signs, strict=True) if sign < 0)
    return ""


def _permuted(image: Series, label: Series) -> str:
    shapes = [series.grid.shape if series.grid else () for series in (image, label)]
    is_permuted = shapes[0] != shapes[1] and sorted(shapes[0]) == sorted(shapes[1])
    return "; its axes are in another order, as arrays of SimpleITK and numpy have them" if is_permuted else ""
