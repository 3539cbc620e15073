"""Whether files hold all of their voxels, told by their sizes: files that were cut short are the commonest damage."""

import statistics
from dataclasses import replace
from pathlib import Path

from medseg.io.nifti.header import check_whole_nifti
from medseg.io.read import read_volume
from medseg.io.source import ImageSource

# Files of one series differ by this many bytes in their headers alone.
HEADER_BYTES = 4096


def check_whole(source: ImageSource) -> None:
    """Raises ``SourceError`` for files of an image that are cut short. Voxels are read only where sizes leave that
    open."""
    if source.kind in ("nifti", "pair"):
        check_whole_nifti(source.path)
    elif source.kind == "dicom":
        for path in _small(source.files):
            chosen = [i for i, file in enumerate(source.files) if file == path]
            frames = tuple(source.frames[i] for i in chosen) if source.frames else ()
            read_volume(replace(source, files=(path,) * len(chosen), frames=frames))


def _small(files: tuple[Path, ...]) -> list[Path]:
    """Files that are smaller than their like (Tukey's fences, so that compressed ones may vary)."""
    sizes = {path: path.stat().st_size for path in files}
    if len(sizes) < 3:
        return []
    low, _, high = statistics.quantiles(sizes.values(), n=4, method="inclusive")
    fence = low - 1.5 * (high - low) - HEADER_BYTES
    return [path for path, size in sizes.items() if size < fence]
