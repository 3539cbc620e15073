"""Images in OME-Zarr through zarr-python: whole, or a box of them at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.errors import SourceError, reading
from medseg.extras import check_installed
from medseg.io.declared_size import check_declared_size
from medseg.io.ome_zarr.metadata import OmeImage, find_image
from medseg.io.ome_zarr.packing import check_array
from medseg.io.source import ImageSource
from medseg.progress import warn
from medseg.volume import Array, Box, Geometry, Volume


@dataclass(frozen=True)
class OmeZarrImage:
    """An image in OME-Zarr whose voxels are still on disk.

    Attributes:
        image: What its metadata say.
        array: zarr's, in the order of its own axes.
        geometry: The grid of ``(x, y, z)``.
    """

    image: OmeImage
    array: Any
    geometry: Geometry

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return int(self.array.shape[self.image.axes.index("c")]) if "c" in self.image.axes else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values that ``read`` returns."""
        stored: np.dtype[Any] = np.dtype(self.array.dtype)
        return stored.newbyteorder("=")

    def read(self, box: Box) -> Array:
        """Returns the voxels ``(channel, x, y, z)`` of a box.

        Raises:
            SourceError: A chunk is damaged.
        """
        axes = self.image.axes
        places = dict(zip("xyz", box, strict=True))
        index = tuple(places[name] if name in places else slice(None) if name == "c" else 0 for name in axes)
        with reading(self.image.array_folder, "OME-Zarr"):
            stored = np.asarray(self.array[index])
        kept = [name for name in axes if name]
        for name in "cxyz":
            if name not in kept:
                stored, kept = stored[..., None], [*kept, name]
        moved: Array = stored.transpose([kept.index(name) for name in "cxyz"])
        return moved.astype(self.dtype, copy=False)


def open_ome_zarr(path: Path, level: str = "") -> OmeZarrImage:
    """Opens an image in OME-Zarr; no voxels are read yet.

    Args:
        path: The folder of the group.
        level: The path of an array in it; empty: the finest.

    Raises:
        SourceError: It is none, is damaged, holds what is no number, or several points in time.
        GeometryError: Its axes are not those of an image.
        ConfigError: zarr is not installed.
    """
    check_installed(str(path), "zarr")
    with reading(path, "OME-Zarr"):
        image = find_image(path, level)
        check_array(image.array_folder)
        import zarr

        array = zarr.open_array(str(image.array_folder), mode="r")
        if array.ndim != len(image.axes):
            raise ValueError(f"{array.ndim} axes where its metadata name {len(image.axes)}")
    alone = [n for name, n in zip(image.axes, array.shape, strict=True) if not name]
    if any(n != 1 for n in alone):
        raise SourceError(
            f"{path}: has {max(alone)} points in time, or on another axis beside channels and space; write one alone"
        )
    sizes = dict(zip(image.axes, array.shape, strict=True))
    x, y, z = (int(sizes.get(name, 1)) for name in "xyz")
    if 0 in array.shape:
        raise SourceError(f"{path}: holds no voxels (shape {array.shape})")
    return OmeZarrImage(image, array, Geometry((x, y, z), image.affine))


def read_ome_zarr(source: ImageSource) -> Volume:
    """Reads a whole image in OME-Zarr.

    Args:
        source: Its folder; its ``part`` is the level, the finest where it is empty.

    Raises:
        SourceError: As ``open_ome_zarr`` does; or it does not fit into memory.
        GeometryError: As ``open_ome_zarr`` does.
    """
    opened = open_ome_zarr(source.path, source.part)
    with reading(source.path, "OME-Zarr"):
        check_declared_size(opened.array.nbytes, opened.array.nbytes)
    missing = missing_chunks(opened)
    if missing:
        warn(f"{source.path}: {missing}")
    return Volume(opened.read((slice(None), slice(None), slice(None))), opened.geometry)


def ome_zarr_geometry(source: ImageSource) -> Geometry:
    """Reads the grid of an image in OME-Zarr from its metadata."""
    return open_ome_zarr(source.path, source.part).geometry


def missing_chunks(opened: OmeZarrImage) -> str:
    """Returns in words how many chunks are not there; empty where all are.

    Writers leave out chunks that hold nothing but the fill value, and copies that were cut short lack others.
    """
    there, every = opened.array.nchunks_initialized, opened.array.nchunks
    if there >= every:
        return ""
    fill = opened.array.fill_value
    return f"{every - there} of {every} chunks are not there, and {fill} stands for their voxels; is it copied whole?"
