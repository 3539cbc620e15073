"""MapTransforms that change the grid. Each keeps the trace of MONAI (``applied_operations``), so that
``monai.transforms.Invertd`` brings a prediction back to the grid of the source.

MONAI's ``Spacingd`` is not used: it places the new voxels by the centres of the old ones, and its numbers differ.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys

from medseg.errors import GeometryError
from medseg.plan import MEDSEG_RESAMPLING, Resampling
from medseg.transforms.grids import label_map_on_grid, on_grid, orthogonal_grid
from medseg.transforms.interpolation import NearestAxes
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.resample import orientation_along, resample, resample_label_map
from medseg.transforms.restoring import restore_label_map
from medseg.volume import SHEAR_TOLERANCE, Geometry, Volume

LABEL = "label"
# How an inverse treats what it is given: MONAI's names, since Invertd(nearest_interp=True) puts "nearest" here.
LABELS, VALUES = "nearest", "trilinear"


def geometry_of(tensor: MetaTensor) -> Geometry:
    """Returns the grid of a MetaTensor (channel, x, y, z).

    Raises:
        GeometryError: It is no MetaTensor, or of another number of axes.

    Examples:
        >>> from monai.data import MetaTensor
        >>> import torch
        >>> geometry_of(MetaTensor(torch.zeros(1, 4, 5, 6))).shape
        (4, 5, 6)
    """
    if not isinstance(tensor, MetaTensor):
        raise GeometryError(
            f"a {type(tensor).__name__} says not where it lies; give a MetaTensor, whose affine is voxel to RAS mm"
        )
    if tensor.ndim != 4:
        raise GeometryError(
            f"a MetaTensor of shape {tuple(tensor.shape)}; give one image, (channel, x, y, z); a 2D one has one voxel "
            "along z"
        )
    x, y, z = tensor.shape[1:]
    return Geometry((x, y, z), np.asarray(tensor.affine, dtype=np.float64))


def moved_to(array: torch.Tensor, grid: Geometry, before: MetaTensor) -> MetaTensor:
    """Returns ``array`` ``(channel, x, y, z)`` on ``grid``, with the metadata and the trace of ``before``."""
    result: MetaTensor = MetaTensor(array).copy_meta_from(before)
    result.affine = torch.from_numpy(grid.affine)
    return result


class _ChangeGridd(MapTransform, InvertibleTransform):
    """Moves a tensor to another grid, and back. Subclasses say which grid, and how."""

    changes_values = False  # of images that lie on their grid already

    def target(self, source: Geometry) -> Geometry:
        raise NotImplementedError

    def values_on(self, values: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns ``values`` ``(channel, x, y, z)`` on ``target``."""
        raise NotImplementedError

    def labels_on(self, label_map: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns ``label_map`` ``(x, y, z)`` on ``target``."""
        raise NotImplementedError

    def restored_values(self, values: torch.Tensor, model: Geometry, source: Geometry) -> torch.Tensor:
        """Returns ``values`` ``(channel, x, y, z)`` back on ``source``."""
        return self.values_on(values, model, source)

    def restored_labels(self, label_map: torch.Tensor, model: Geometry, source: Geometry) -> torch.Tensor:
        """Returns ``label_map`` ``(x, y, z)`` back on ``source``."""
        return self.labels_on(label_map, model, source)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            source = geometry_of(tensor)
            target = self.target(source)
            moved = tensor
            if target is not source or (self.changes_values and key != LABEL):
                plain = tensor.as_tensor()
                if key == LABEL:
                    array = torch.stack([self.labels_on(channel, source, target) for channel in plain])
                else:
                    array = self.values_on(plain, source, target)
                moved = moved_to(array, target, tensor)
            trace = {"affine": torch.from_numpy(source.affine), "mode": LABELS if key == LABEL else VALUES}
            result[key] = self.push_transform(moved, orig_size=source.shape, extra_info=trace)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Brings tensors ``(channel, x, y, z)`` back to the grid that they had before the call.

        Args:
            data: A dictionary of ``MetaTensor``s; those of ``keys`` are changed.

        Returns:
            The dictionary, with what was changed.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            done = self.pop_transform(tensor)
            trace = done[TraceKeys.EXTRA_INFO]
            x, y, z = (int(n) for n in done[TraceKeys.ORIG_SIZE])
            source = Geometry((x, y, z), np.asarray(trace["affine"], dtype=np.float64))
            model = geometry_of(tensor)
            if self.target(source) is source:
                continue
            plain = tensor.as_tensor()
            if trace["mode"] == LABELS:
                array = torch.stack([self.restored_labels(channel, model, source) for channel in plain])
            else:
                array = self.restored_values(plain, model, source)
            result[key] = moved_to(array.to(plain.device), source, tensor)
        return result


class ResampleToSpacingd(_ChangeGridd):
    """Resamples to a spacing; the outer faces of the volume stay where they are, unless another rule is asked for.

    Images are interpolated, and the key ``label`` is resampled by the largest share of each label
    (``medseg.transforms.resample``). The inverse does what ``medseg.transforms.restoring`` does: values are
    interpolated linearly, and label maps get at each voxel the label with the largest share.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> resampled = ResampleToSpacingd(["image"], (2.0, 1.0, 1.0))({"image": MetaTensor(torch.zeros(1, 8, 8, 8))})
        >>> tuple(resampled["image"].shape)
        (1, 4, 8, 8)
        >>> resampled["image"].applied_operations[-1]["class"]
        'ResampleToSpacingd'
    """

    def __init__(
        self,
        keys: Sequence[str],
        spacing: Sequence[float | None],
        resampling: Resampling = MEDSEG_RESAMPLING,
        masks: Sequence[int] = (),
    ) -> None:
        """Takes what to resample to.

        Args:
            keys: of MetaTensors (channel, x, y, z); one that is missing is no error.
            spacing: of the voxels to be, in mm, in array-axis order: what MONAI's ``Spacingd`` calls ``pixdim``. None:
                that of each image stays.
            resampling: by whose rule, and the interpolation of images.
            masks: channels of images that are masks.

        Raises:
            ValueError: The spacing is not of three numbers above 0.
        """
        super().__init__(keys, allow_missing_keys=True)
        edges = np.asarray([1.0 if mm is None else mm for mm in spacing], dtype=np.float64)
        if edges.shape != (3,) or not (np.isfinite(edges).all() and (edges > 0).all()):
            raise ValueError(f"spacing {spacing}: give three numbers above 0, in mm")
        self.rule = ModelGridRule(spacing, resampling, tuple(masks))
        self.changes_values = bool(masks) or resampling.whole_numbers

    def target(self, source: Geometry) -> Geometry:
        """Returns the grid of the new spacing; the very ``source`` where that has it already."""
        return self.rule.grid_of(source)

    def values_on(self, values: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns the values, interpolated on ``target``."""
        return self.rule.images_on(values, source, target)

    def labels_on(self, label_map: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns the label with the largest share around each voxel of ``target``."""
        return resample_label_map(label_map, source, target)

    def restored_values(self, values: torch.Tensor, model: Geometry, source: Geometry) -> torch.Tensor:
        """Returns the values, interpolated on ``source``, float32."""
        return resample(values.float(), model, source, nearest=self._nearest(model, source).axes)

    def restored_labels(self, label_map: torch.Tensor, model: Geometry, source: Geometry) -> torch.Tensor:
        """Returns the label with the largest share around each voxel of ``source``."""
        return restore_label_map(label_map, model, source, self._nearest(model, source))

    def _nearest(self, model: Geometry, source: Geometry) -> NearestAxes:
        return self.rule.nearest_axes_back(source.oriented_as(orientation_along(model, source)))


class OrthogonalGridd(_ChangeGridd):
    """Brings a sheared volume, such as CT of a tilted gantry, to the smallest orthogonal grid over it.

    Images are interpolated linearly, label maps take the nearest voxel. Volumes with right angles stay as they are.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> sheared = torch.eye(4, dtype=torch.float64)
        >>> sheared[1, 2] = 0.5
        >>> image = MetaTensor(torch.zeros(1, 8, 8, 8), affine=sheared)
        >>> tuple(OrthogonalGridd(["image"])({"image": image})["image"].shape)
        (1, 8, 12, 8)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Takes the ``keys`` of MetaTensors (channel, x, y, z); one that is missing is no error."""
        super().__init__(keys, allow_missing_keys=True)

    def target(self, source: Geometry) -> Geometry:
        """Returns the orthogonal grid; the very ``source`` where that is orthogonal."""
        return orthogonal_grid(source) if source.shear > SHEAR_TOLERANCE else source

    def values_on(self, values: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns the values on the orthogonal grid."""
        return torch.from_numpy(np.ascontiguousarray(on_grid(Volume(values.cpu().numpy(), source), target).array))

    def labels_on(self, label_map: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
        """Returns the labels on the orthogonal grid."""
        return torch.from_numpy(label_map_on_grid(label_map.cpu().numpy(), source, target))
