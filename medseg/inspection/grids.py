"""A label map that should lie on the grid of its image, and does not."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from medseg.dataset.grid_mismatch import ROUNDED_SPACING, export_like, goes_voxel_by_voxel
from medseg.inspection.finding import Finding, Severity
from medseg.inspection.repair import PlaceLike
from medseg.inspection.series import Series
from medseg.volume import GRID_TOLERANCE, Geometry

# Below this part of the smallest voxel edge, headers differ by no more than floating-point numbers do.
SAME = 1e-4

# What was rounded has one corner that lies nearly where it was (parts of the smallest edge), voxels of nearly the same
# size (parts of it) and directions that are nearly the same (cosines). What was moved by half a voxel, as by programs
# that confuse its centre with its corner, or was turned by a registration, is none of it.
ROUNDED_CORNER = 0.1
ROUNDED_DIRECTION = 0.002

# A header with voxel sizes alone lost the rest where it lies further off than this many voxels; nearer, the image lies
# at the origin of the world, and the label map was moved by a slip.
FAR = 10

# A label map whose axes run another way than those of its image, no further off than this many voxels, was written so
# on purpose and moved by a slip; further off, its directions are not to be believed.
SLIP = 2

MIRRORED_ALONG = ("left and right", "front and back", "top and bottom")


def grid_findings(image: Series, label: Series, case_id: str) -> Iterator[Finding]:
    """Yields how the grid of a label map differs from that of its image, and the repair where it was rounded or
    lost."""
    if image.grid is None or label.grid is None:
        return
    upright = image.grid.oriented_as(label.grid.orientation)
    severity: Severity = "problem" if upright.difference(label.grid, GRID_TOLERANCE) else "note"  # as preprocess does
    image_lost, label_lost = _is_lost(image, label.grid), _is_lost(label, image.grid)
    if image_lost and not label_lost:
        yield _lost(image, label, case_id, severity)
    elif label_lost and not image_lost:
        yield _lost(label, image, case_id, severity)
    elif _is_rounded(upright, label.grid):
        what = f"lies {upright.distance(label.grid):.2g} mm off the grid of its image, by a rounded header"
        to_do = "--fix gives it the exact place of its image"
        repair = PlaceLike(upright, image.source.path) if label.takes_place else None
        yield Finding(severity, "grid-rounded", label.source.path, what, to_do, case_id, repair)
    elif severity == "problem" and goes_voxel_by_voxel(image.grid, label.grid):
        yield _other_header(image, label, (image.grid, label.grid), case_id)
    elif severity == "problem":
        yield _elsewhere(image, label, upright, case_id)


def _is_lost(series: Series, other: Geometry) -> bool:
    """Returns whether a header does not say how the voxels are turned and where they lie, unlike that of ``other``."""
    if series.grid is None or series.grid.shape != other.shape:
        return False
    axes, origin = series.grid.affine[:3, :3], series.grid.affine[:3, 3]
    is_bare = not origin.any() and not (axes - np.diag(np.diag(axes))).any()
    return not series.has_place or (is_bare and series.grid.distance(other) > FAR * max(other.spacing))


def _lost(lost: Series, placed: Series, case_id: str, severity: Severity) -> Finding:
    path, grid = lost.source.path, placed.grid
    what = f"its header does not say how it is turned and where it lies, unlike that of {_short(placed)}"
    if lost.takes_place and lost.grid and grid and goes_voxel_by_voxel(grid, lost.grid):
        to_do = "--fix copies it from there, since the voxels are as many, in each direction"
        return Finding(severity, "lost-place", path, what, to_do, case_id, PlaceLike(grid, placed.source.path))
    to_do = "write it again with the place of the image"
    return Finding(severity, "lost-place", path, what, to_do, case_id)


def _short(series: Series) -> str:
    return f"{series.source.path.parent.name}/{series.source.path.name}"


def _is_rounded(image: Geometry, label: Geometry) -> bool:
    """Returns whether the two differ by the digits that a program wrote, which moves the furthest corner most."""
    if image.shape != label.shape or image.distance(label) <= SAME * min(image.spacing):
        return False
    corners = np.array(list(product(*((0, n - 1) for n in image.shape))))
    nearest = np.linalg.norm(image.world(corners) - label.world(corners), axis=1).min()
    image_axes, label_axes = (grid.affine[:3, :3] / np.array(grid.spacing) for grid in (image, label))
    return bool(
        nearest <= ROUNDED_CORNER * min(image.spacing)
        and np.allclose(image.spacing, label.spacing, rtol=ROUNDED_SPACING, atol=0)
        and np.allclose(image_axes, label_axes, rtol=0, atol=ROUNDED_DIRECTION)
    )


def _other_header(image: Series, label: Series, grids: tuple[Geometry, Geometry], case_id: str) -> Finding:
    """Returns the finding on a label map with as many voxels of the same size as its image, elsewhere.

    What was drawn on an image goes with it voxel by voxel, so that it is the header that is wrong, and resampling would
    move what was drawn. ``grids`` are those of image and label map.
    """
    on, grid = grids
    is_image = set(on.spacing) == {1.0} != set(grid.spacing)  # it lost its voxel sizes, not the label map
    wrong, right = (image, label) if is_image else (label, image)
    rule, what = "grid-differs", f"its header differs from that of its image: {on.difference(grid)}"
    sides = _mirrored_sides(on, grid)
    if sides:
        rule, what = "mirrored", f"is a mirror image of its image: {sides} are swapped in one of the two headers"
    if not wrong.takes_place:
        to_do = f"write it again with the header of {_short(right)}, voxels unchanged"
        return Finding("problem", rule, wrong.source.path, what, to_do, case_id)
    to_do = (
        f"its voxels are as many and as large, so --fix copies the header of {_short(right)}, voxels unchanged; look "
        "at the two in a viewer then"
    )
    if sides:
        to_do += ", and find out which of the two headers had left and right right"
    place = PlaceLike(grid if is_image else _place_on(on, grid), right.source.path)
    return Finding("problem", rule, wrong.source.path, what, to_do, case_id, place)


def _place_on(image: Geometry, label: Geometry) -> Geometry:
    """Returns where the voxels of a label map lie that go with those of its image, one by one."""
    upright = image.oriented_as(label.orientation)
    is_slip = upright.shape == label.shape and upright.distance(label) <= SLIP * max(label.spacing)
    return upright if is_slip or image.shape != label.shape else image


def _elsewhere(image: Series, label: Series, upright: Geometry, case_id: str) -> Finding:
    """Returns the finding on a label map with other voxels than its image."""
    path, grid, on = label.source.path, label.grid or upright, image.grid or upright
    what = f"does not lie on the grid of its image: {upright.difference(grid)}"
    if on.shape != grid.shape and sorted(on.shape) == sorted(grid.shape):
        what += "; its axes are in another order, as arrays of SimpleITK and numpy have them"
    to_do = f"was it drawn on this image? If so, '{export_like(path, image.source.path)}' brings it there"
    return Finding("problem", "grid-differs", path, what, to_do, case_id)


def _mirrored_sides(image: Geometry, label: Geometry) -> str:
    """Returns which sides differ between two affines that are otherwise equal, as when LPS is taken for RAS; else
    empty."""
    for signs in product((1, -1), repeat=3):
        mirrored = Geometry(image.shape, np.diag([*signs, 1.0]) @ image.affine)
        if -1 in signs and mirrored.difference(label) is None:
            return ", ".join(side for side, sign in zip(MIRRORED_ALONG, signs, strict=True) if sign < 0)
    return ""
