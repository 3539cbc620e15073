"""Label maps in OME-Zarr 0.5: a group with ``labels/NAME``, whose levels are made when the finest one is whole."""

from pathlib import Path
from typing import Any

import numpy as np

from medseg.errors import GeometryError, OutputError
from medseg.extras import check_installed
from medseg.files import folder_written_whole
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.ome_zarr.metadata import axes_on, transforms_on
from medseg.labels import Labels
from medseg.volume import Array, Box, Geometry, Shape3

CHUNK = 128  # voxels along each axis
NAME = "segmentation"  # of the label map in labels/
SMALLEST_LEVEL = 256  # voxels along an axis of the coarsest level, at most
OPAQUE = 255


class LabelStore:
    """A label map in OME-Zarr that is written block by block, by several processes where blocks end at chunks.

    Args:
        folder: Of the store; ``create`` makes it.
    """

    def __init__(self, folder: Path) -> None:
        import zarr

        self.folder = folder
        self.group = folder / "labels" / NAME
        self.array: Any = zarr.open_array(str(self.group / "0"), mode="r+")

    @classmethod
    def create(cls, folder: Path, geometry: Geometry, labels: Labels, chunk: int = CHUNK) -> "LabelStore":
        """Returns a store of zeros.

        Args:
            folder: It is made.
            geometry: The grid of the label map.
            labels: Their names and colours are written.
            chunk: Voxels of a chunk along each axis.

        Raises:
            OutputError: OME-Zarr cannot say where this grid lies, or the folder cannot be written.
        """
        check_installed(str(folder), "zarr")
        import zarr

        try:
            axes = axes_on(geometry)
        except GeometryError as error:
            raise OutputError(f"{folder}: {error}") from error
        try:
            zarr.create_group(str(folder), attributes={"ome": {"version": "0.5"}})
            zarr.create_group(str(folder / "labels"), attributes={"ome": {"version": "0.5", "labels": [NAME]}})
            attributes = {"ome": {"version": "0.5", "multiscales": [_multiscale(axes, [transforms_on(geometry)])],
                                  "image-label": _image_label(labels)}}  # fmt: skip
            zarr.create_group(str(folder / "labels" / NAME), attributes=attributes)
            dtype = np.min_scalar_type(max(labels.values, default=1))
            _create_array(folder / "labels" / NAME / "0", geometry.shape, dtype, chunk)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); choose another -o") from error
        return cls(folder)

    def write(self, box: Box, label_map: Array) -> None:
        """Writes a block ``(x, y, z)``, in the values of the labels; other processes may write others at that time.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            self.array[box[::-1]] = label_map.T
        except OSError as error:
            raise OutputError(f"{self.group}: cannot be written ({error.strerror or error})") from error

    def read(self, box: Box) -> Array:
        """Returns a block ``(x, y, z)``."""
        block: Array = np.asarray(self.array[box[::-1]]).T
        return block

    def add_levels(self, geometry: Geometry) -> None:
        """Writes coarser levels, of every second voxel along each axis, until they are small enough for a viewer."""
        import zarr

        finer, step, transforms = self.array, 1, [transforms_on(geometry)]
        while max(finer.shape) > SMALLEST_LEVEL:
            step *= 2
            z, y, x = (-(-n // 2) for n in finer.shape)
            coarser = _create_array(self.group / str(len(transforms)), (x, y, z), finer.dtype, CHUNK)
            for first in range(0, z, CHUNK):
                for second in range(0, y, CHUNK):
                    rows, columns = slice(2 * first, 2 * (first + CHUNK), 2), slice(2 * second, 2 * (second + CHUNK), 2)
                    coarser[first : first + CHUNK, second : second + CHUNK] = finer[rows, columns, ::2]
            finer = coarser
            transforms.append(transforms_on(geometry, (step, step, step)))
        group = zarr.open_group(str(self.group), mode="r+", use_consolidated=False)
        ome: Any = group.attrs["ome"]
        group.attrs["ome"] = {**ome, "multiscales": [_multiscale(axes_on(geometry), transforms)]}


def write_ome_zarr(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes a label map as an OME-Zarr store, whole or not at all.

    Args:
        path: The folder.
        segmented: The label map with its grid and labels.

    Returns:
        The folder.

    Raises:
        OutputError: OME-Zarr cannot say where the grid lies, or the folder cannot be written.
    """
    with folder_written_whole(path, replaces=True) as folder:
        store = LabelStore.create(folder / "store", segmented.geometry, segmented.labels)
        store.write(segmented.geometry.box, segmented.label_map)
        store.add_levels(segmented.geometry)
        for each in (folder / "store").iterdir():
            each.rename(folder / each.name)
        (folder / "store").rmdir()
    return [path]


def _create_array(folder: Path, shape: Shape3, dtype: np.dtype[Any], chunk: int) -> Any:
    import zarr
    from zarr.codecs import ZstdCodec

    x, y, z = shape
    return zarr.create_array(
        str(folder),
        shape=(z, y, x),
        chunks=(min(chunk, z), min(chunk, y), min(chunk, x)),
        dtype=dtype,
        fill_value=0,
        compressors=ZstdCodec(level=3),
        dimension_names=("z", "y", "x"),
    )


def _multiscale(axes: list[dict[str, Any]], transforms: list[list[dict[str, Any]]]) -> dict[str, Any]:
    datasets = [{"path": str(i), "coordinateTransformations": each} for i, each in enumerate(transforms)]
    return {"name": NAME, "axes": axes, "datasets": datasets, "type": "nearest"}


def _image_label(labels: Labels) -> dict[str, Any]:
    colours = [{"label-value": item.value, "rgba": [*item.colour, OPAQUE]} for item in labels.items]
    return {"version": "0.5", "colors": colours,
            "properties": [{"label-value": item.value, "name": item.name} for item in labels.items]}  # fmt: skip
