"""Volumes whose voxels stay on disk, and are read a box at a time."""

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.analyze import AnalyzeImage

from medseg.errors import SourceError, reading
from medseg.files import written_whole
from medseg.io.folders import is_gzipped
from medseg.io.nifti.pair import voxel_file
from medseg.io.nifti.reader import array_proxy, image_geometry, n_bytes, open_nifti
from medseg.io.ome_zarr.reader import OmeZarrImage, open_ome_zarr
from medseg.io.source import ImageSource
from medseg.volume import Array, Box, Geometry

CHUNK = 2**20  # bytes that are decompressed at a time
KINDS = ("nifti", "pair", "ome_zarr")  # that can be read box by box


class LazyVolume(Protocol):
    """A volume whose voxels are read a box at a time; their values and types are those of ``read_volume``."""

    @property
    def geometry(self) -> Geometry:
        """The grid of the voxels, in RAS mm."""

    @property
    def n_channels(self) -> int:
        """The number of channels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values that ``read`` returns."""

    def read(self, box: Box) -> Array:
        """Returns the voxels ``(channel, x, y, z)`` of a box.

        Raises:
            SourceError: They cannot be read.
        """


@dataclass(frozen=True)
class LazyNifti:
    """A NIfTI file that is not compressed, or a pair of files, whose voxels are still on disk."""

    path: Path
    image: AnalyzeImage
    geometry: Geometry

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return int(np.prod(self.image.shape[3:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values that ``read`` returns: float64 where the header scales them."""
        proxy = array_proxy(self.image)
        is_scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        return np.dtype(np.float64) if is_scaled else np.dtype(proxy.dtype).newbyteorder("=")

    def read(self, box: Box) -> Array:
        """Returns the voxels ``(channel, x, y, z)`` of a box."""
        with reading(self.path, "NIfTI"):
            shape = tuple(part.stop - part.start for part in box)
            stored = np.asarray(array_proxy(self.image)[box[: len(self.image.shape)]])
        channels = np.moveaxis(stored.reshape(*shape, -1, order="F"), -1, 0)
        return channels.astype(self.dtype, copy=False)


def open_lazily(source: ImageSource) -> LazyVolume:
    """Opens an image whose voxels are read a box at a time.

    Args:
        source: NIfTI that is not compressed, or OME-Zarr.

    Raises:
        SourceError: It is of another kind, compressed, or damaged.
        GeometryError: Programs read its place differently.
    """
    if source.kind not in KINDS or source.frames:
        raise SourceError(
            f"{source.path}: cannot be read block by block; write it as OME-Zarr or as a .nii that holds one volume"
        )
    volume = _opened(source)
    if source.spacing is None:
        return volume
    return replace(volume, geometry=volume.geometry.with_spacing(source.spacing))


def _opened(source: ImageSource) -> "LazyNifti | OmeZarrImage":
    if source.kind == "ome_zarr":
        return open_ome_zarr(source.path, source.part)
    if is_gzipped(voxel_file(source.path)):
        raise SourceError(f"{source.path}: is compressed as a whole, and cannot be read in parts; unpack it by gunzip")
    image = open_nifti(source.path, in_memory=False)
    if len([n for n in image.shape[3:] if n != 1]) > 1:
        raise SourceError(f"{source.path}: {len(image.shape)} axes {image.shape}; split it into files of four axes")
    return LazyNifti(source.path, image, image_geometry(source.path, image))


def is_compressed(source: ImageSource) -> bool:
    """Returns whether it is a NIfTI file that ``unpacked_nifti`` has to unpack first."""
    return source.kind == "nifti" and is_gzipped(source.path)


def unpacked_nifti(source: ImageSource, folder: Path) -> ImageSource:
    """Returns a NIfTI file unpacked into a folder, which takes no memory; what is there already is taken.

    Args:
        source: A ``.nii.gz``.
        folder: Where the ``.nii`` goes.

    Raises:
        SourceError: It is damaged.
        OutputError: The folder has too little space.
    """
    path = folder / "unpacked.nii"
    if not path.is_file():
        left = n_bytes(open_nifti(source.path, in_memory=False))  # what it declares is compared with its size
        with written_whole(path) as temporary, gzip.open(source.path) as packed, temporary.open("wb") as plain:
            while left > 0 and (chunk := _decompressed(source.path, packed)):
                left -= plain.write(chunk)
    return replace(source, path=path, files=(path,))


def _decompressed(path: Path, packed: gzip.GzipFile) -> bytes:
    with reading(path, "NIfTI"):
        return packed.read(CHUNK)
