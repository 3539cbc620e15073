"""A MapTransform that reads whatever medseg reads."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.errors import GeometryError, SourceError
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.transforms.grids import on_grid
from medseg.transforms.prepared import native
from medseg.transforms.spatial import LABEL, geometry_of
from medseg.volume import GRID_TOLERANCE, Geometry, Volume

IMAGE = "image"


class ReadVolumed(MapTransform):
    """Reads images and label maps by ``medseg.read_volume``: NIfTI, DICOM series, NRRD, MetaImage, pictures.

    MONAI's ``LoadImaged`` reads some of these in another way: units of NIfTI, a tilted gantry, several channels of a
    file, the orientation of photographs. A value that is a ``MetaTensor`` already stays as it is, so that a dictionary
    may hold either.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from medseg.labels import Labels
        >>> label = MetaTensor(torch.tensor([0.0, 5.0, 7.0]).view(1, 3, 1, 1))
        >>> read = ReadVolumed(["label"], Labels.from_values([5, 7]))
        >>> read({"label": label})["label"].flatten().tolist()
        [0, 1, 2]
    """

    def __init__(
        self,
        keys: Sequence[str],
        labels: Labels | None = None,
        *,
        tolerance: float = GRID_TOLERANCE,
        registered: bool = False,
    ) -> None:
        """Takes what to read, and how.

        Args:
            keys: ``image``, ``label``; one that is missing is no error.
            labels: whose values the key ``label`` holds; it becomes uint8 network values. None: values stay.
            tolerance: how far apart the grids of one case may lie, as part of the smallest voxel edge.
            registered: whether channels on other grids than the first one's are resampled to it.
        """
        super().__init__(keys, allow_missing_keys=True)
        self.labels = labels
        self.tolerance = tolerance
        self.registered = registered

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the data with ``MetaTensor``s: images (channel, x, y, z) float32, a label map (1, x, y, z).

        Raises:
            SourceError: for what cannot be read.
            GeometryError: where the channels, or the image and the label, lie on different grids.
            LabelError: for a value that is no label's.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            if not isinstance(tensor, MetaTensor):
                tensor = self._read(tensor)
            result[key] = self._encoded(tensor) if key == LABEL else tensor.float().contiguous()
        if IMAGE in result and LABEL in result:
            difference = geometry_of(result[IMAGE]).difference(geometry_of(result[LABEL]), self.tolerance)
            if difference is not None:
                raise GeometryError(f"image and label lie on different grids: {difference}")
        return result

    def _read(self, paths: Any) -> MetaTensor:
        files = [paths] if isinstance(paths, str | Path) else list(paths)
        if not all(isinstance(file, str | Path) for file in files):
            raise SourceError("an array without an affine says not where it lies; give a path or a MetaTensor")
        volumes = [read_volume(Path(file)) for file in files]
        grid = volumes[0].geometry
        arrays = [self._on(grid, volume, file).array for file, volume in zip(files, volumes, strict=True)]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        affine = torch.from_numpy(grid.affine)
        return MetaTensor(torch.from_numpy(native(array)), affine=affine, meta={"filename_or_obj": str(files[0])})

    def _on(self, grid: Geometry, volume: Volume, file: str | Path) -> Volume:
        difference = grid.difference(volume.geometry, self.tolerance)
        if difference is None:
            return volume
        if not self.registered:
            raise GeometryError(f"{file}: lies on another grid than the first channel: {difference}")
        return on_grid(volume, grid)

    def _encoded(self, tensor: MetaTensor) -> MetaTensor:
        plain = tensor.as_tensor()
        encoded = plain.to(torch.uint8) if self.labels is None else torch.from_numpy(self.labels.encode(plain.numpy()))
        result: MetaTensor = MetaTensor(encoded).copy_meta_from(tensor)
        return result
