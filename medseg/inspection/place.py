"""What a header says of where an image lies, and whether that can be true."""

from collections.abc import Iterator

import numpy as np

from medseg.inspection.finding import Finding
from medseg.io.nifti_header import NiftiHeader
from medseg.io.source import ImageSource
from medseg.volume import GRID_TOLERANCE, SHEAR_TOLERANCE, Geometry

# No scanner's field of view: a spacing of 1 mm that was never measured, and lengths in another unit.
SUSPICIOUS_SIZE = 400  # voxels of exactly 1×1×1 mm
LONGEST_MM = 3000.0
SHORTEST_MM = 1.0  # of the longest edge, where no unit is named: metres taken for mm


def place_findings(source: ImageSource, grid: Geometry, header: NiftiHeader | None) -> Iterator[Finding]:
    """``header``: that of a NIfTI file."""
    oddities = (
        [] if source.kind == "image2d" else [*_oddities(grid), *(_header_oddities(header, grid) if header else ())]
    )
    for rule, what, to_do in oddities:
        yield Finding("warning", rule, source.path, what, to_do)
    if header and header.unit not in ("mm", "unknown"):
        what = f"its header gives lengths in {header.unit}, which are converted to mm"
        yield Finding("note", "unit", source.path, what, "nothing: masks keep the unit of the file")


def _oddities(grid: Geometry) -> Iterator[tuple[str, str, str]]:
    if grid.shear > SHEAR_TOLERANCE:
        angle = np.degrees(np.arcsin(min(grid.shear, 1.0)))
        what = f"its axes are not at right angles, but sheared by {angle:.1f}°"
        yield "sheared", what, "if the scanner was not tilted, correct the affine in its header"
    extent = max(n * spacing for n, spacing in zip(grid.shape, grid.spacing, strict=True))
    if extent > LONGEST_MM:
        yield "spacing", f"is {extent / 1000:.3g} m long", "check the spacing in its header: is it in mm?"
    if set(grid.spacing) == {1.0} and max(grid.shape) >= SUSPICIOUS_SIZE:
        what = f"voxels of exactly 1×1×1 mm over {max(grid.shape)} voxels: the spacing seems to be lost"
        yield "spacing", what, "convert it again from the original, or correct the spacing in its header"


def _header_oddities(header: NiftiHeader, grid: Geometry) -> Iterator[tuple[str, str, str]]:
    longest = max(n * spacing for n, spacing in zip(grid.shape, grid.spacing, strict=True))
    if header.unit == "unknown" and longest < SHORTEST_MM:
        what = f"its header names no unit of length; in mm, it is {longest:.2g} mm long"
        yield "unit", what, "if these are metres, say so in its header (xyzt_units)"
    if not header.has_place:
        why = "it is Analyze" if header.is_analyze else "sform_code and qform_code are 0"
        what = f"its header says neither where it lies nor how it is turned ({why})"
        yield "no-place", what, "convert it again from the original: nothing tells its left from its right"
    if header.sform is None or header.qform is None:
        return
    try:
        apart = Geometry(grid.shape, header.sform).distance(Geometry(grid.shape, header.qform))
    except ValueError:  # one of the two cannot be inverted
        apart = float("inf")
    if apart > GRID_TOLERANCE * min(grid.spacing):
        what = f"sform and qform in its header lie {apart:.3g} mm apart, and programs differ in which they take"
        yield "two-places", what, "the sform is taken here; find out which is right, and set both to it"
