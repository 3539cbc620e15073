"""What to do about a label map that should lie on the grid of its image, and does not."""

import shlex
from pathlib import Path

import numpy as np

from medseg.dataset.cases import CaseSelection
from medseg.io.archives import origin
from medseg.io.nifti.header import read_nifti_header
from medseg.io.source import ImageSource
from medseg.volume import Geometry

# Voxel sizes that differ by no more than this part of them are the same, rounded.
ROUNDED_SPACING = 0.01

# What puts headers and values right, as messages about one file name it; ``filled_in`` knows what the user called.
FIX = "'medseg inspect SOURCE --fix COPY'"


def goes_voxel_by_voxel(image: Geometry, label: Geometry) -> bool:
    """Says whether a label map has a value for each voxel of its image, whatever the headers say of their places.

    It has where the two have as many voxels of the same size, in each direction. A size of 1×1×1 mm may be none at all.
    """
    is_lost = any(set(grid.spacing) == {1.0} for grid in (image, label))
    return any(
        grid.shape == label.shape
        and (is_lost or np.allclose(grid.spacing, label.spacing, rtol=ROUNDED_SPACING, atol=0))
        for grid in (image, image.oriented_as(label.orientation))
    )


def advice_off_grid(image: ImageSource, label: ImageSource, grids: tuple[Geometry, Geometry]) -> str:
    """Returns what to do about a label map that does not lie on the grid of its image.

    Args:
        image: The image.
        label: The label map.
        grids: Those of the two.
    """
    if not goes_voxel_by_voxel(*grids):
        return f"is it the mask of this image? If so, '{export_like(label.path, image.path)}' brings it there"
    how = "write it again with the header of its image, voxels unchanged"
    if label.kind in ("nifti", "pair") and not read_nifti_header(label.path).is_analyze:
        how = f"{FIX} gives it the header of its image, voxels unchanged"
    return f"its voxels are as many and as large, so that only a header is wrong: {how}"


def export_like(mask: Path, image: Path) -> str:
    """Returns the command that resamples a mask to the grid of an image."""
    return f"medseg export {shlex.quote(str(origin(mask)))} -o FILE --like {shlex.quote(str(origin(image)))}"


def filled_in(message: str, source: Path, selection: CaseSelection) -> str:
    """Returns a message whose command that puts things right has the arguments of the command that told of them."""
    command = ["medseg", "inspect", str(source), *selection.options, "--fix", f"{source.resolve().name}-fixed"]
    return message.replace(FIX, f"'{shlex.join(command)}'")
