"""The prepared dataset, as a torch ``Dataset`` of dictionaries.

Its files: ``medseg.dataset.prepared_json``, ``medseg.dataset.prepared_arrays``.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import Dataset

from medseg.dataset.cases import Case
from medseg.dataset.prepared_arrays import IMAGE_DTYPE, read_array, read_voxels, target_name
from medseg.dataset.prepared_json import AGAIN, StoredCase, read_dataset, read_fingerprint, read_plans
from medseg.dataset.spacing import spaced
from medseg.errors import SourceError
from medseg.fingerprint import UsualValues
from medseg.io.discover import source_of
from medseg.labels import IGNORED, Labels
from medseg.plan import Plans, TargetKind
from medseg.volume import Array, Geometry

Item = dict[str, Any]


class PreparedDataset(Dataset[Item]):
    """A folder that ``medseg preprocess`` wrote: a torch ``Dataset`` whose items are dictionaries, one a case.

    ``image``: ``MetaTensor`` (channel, x, y, z) float32, normalized, on the model grid, with its affine (voxel to RAS
    mm). ``label``: ``MetaTensor`` (1, x, y, z) uint8, network values: 0, 1, 2, … in the order of ``labels``, and 255
    where nobody annotated. ``case_id``: str. ``monai.data.DataLoader`` and MONAI's transforms of dictionaries
    (``RandCropByPosNegLabeld``, …) work on them as they are. MONAI takes 255 for foreground.

    The arrays are read when an item is asked for; ``image(case_id)`` and the like give them memory-mapped.

    Examples:
        Patches for a training loop of your own:

        >>> from monai.data import DataLoader
        >>> from monai.transforms import RandSpatialCropd
        >>> from medseg.dataset import PreparedDataset
        >>> crop = RandSpatialCropd(["image", "label"], roi_size=(4, 4, 4), random_size=False)
        >>> dataset = PreparedDataset("prepared", transform=crop)  # what medseg preprocess wrote
        >>> for batch in DataLoader(dataset, batch_size=2, shuffle=True):
        ...     assert batch["image"].shape == batch["label"].shape == (len(batch["case_id"]), 1, 4, 4, 4)
    """

    def __init__(
        self,
        folder: Path | str,
        case_ids: Sequence[str] | None = None,
        transform: Callable[[Item], Any] | None = None,
    ) -> None:
        """Opens a prepared folder; no array is read yet.

        Args:
            folder: what ``medseg preprocess -o`` named.
            case_ids: of the items, in their order, such as ``split_fold(…).training``. None: all.
            transform: what is done to each item, such as a ``monai.transforms.Compose``.

        Raises:
            SourceError: where it is no prepared folder, was prepared without labels, or has no such case.
        """
        self.folder = Path(folder)
        self.record = read_dataset(self.folder)
        if self.record.labels is None or any(case.model_grid is None for case in self.record.cases):
            raise SourceError(
                f"{folder} was prepared without labels: it can be predicted on, but not trained on; run "
                "'medseg preprocess' on a source that has label maps"
            )
        self.labels: Labels = self.record.labels
        self.transform = transform
        self.case_ids = self._known(self.cases if case_ids is None else case_ids)

    def __len__(self) -> int:
        return len(self.case_ids)

    def __getitem__(self, index: int) -> Any:
        """Returns the item of a case, transformed.

        Raises:
            SourceError: A file is damaged.
        """
        case_id = self.case_ids[index]
        affine = torch.from_numpy(self.model_grid(case_id).affine)
        label_map = np.array(self.label_map(case_id))
        self.check_values(case_id, label_map)
        meta = {"filename_or_obj": str(self.image_paths(case_id)[0])}
        image = torch.from_numpy(self.image(case_id).astype(np.float32))
        item = {
            "image": MetaTensor(image, affine=affine, meta=dict(meta)),
            "label": MetaTensor(torch.from_numpy(label_map)[None], affine=affine, meta=dict(meta)),
            "case_id": case_id,
        }
        return item if self.transform is None else self.transform(item)

    def subset(self, case_ids: Sequence[str]) -> "PreparedDataset":
        """Returns the same dataset with other items, such as ``dataset.subset(split.training)``.

        Raises:
            SourceError: It has no such case.
        """
        dataset = copy(self)
        dataset.case_ids = self._known(case_ids)
        return dataset

    @cached_property
    def plans(self) -> Plans:
        """The 2D and the 3D plan, of plan.json."""
        return read_plans(self.folder, self.record)

    @cached_property
    def usual_values(self) -> tuple[UsualValues, ...]:
        """The quantiles of values that cases usually have, by channel; () where an older version prepared them."""
        return read_fingerprint(self.folder, self.record).usual_values

    @cached_property
    def cases(self) -> dict[str, StoredCase]:
        """All cases of the folder, by case_id."""
        return {case.case_id: case for case in self.record.cases}

    def image(self, case_id: str) -> Array:
        """Returns the image of a case on its model grid, float16 ``(channel, x, y, z)``, memory-mapped."""
        shape = (len(self.record.channels), *self.model_grid(case_id).shape)
        return read_array(self._path(case_id, "image"), IMAGE_DTYPE, shape)

    def label_map(self, case_id: str) -> Array:
        """Returns the label map of a case on its model grid, uint8 ``(x, y, z)``, in network values, memory-mapped."""
        return read_array(self._path(case_id, "label_map"), np.uint8, self.model_grid(case_id).shape)

    def objects(self, case_id: str) -> Array:
        """Returns the objects of a case on its model grid, int32 ``(x, y, z)``, memory-mapped.

        0 is no object; the label of an object is that of its voxels in ``label_map``.

        Raises:
            SourceError: The dataset was prepared without instance labels.
        """
        path = self._path(case_id, "objects")
        if not self.labels.instances:
            raise SourceError(
                f"{self.folder} tells no objects apart; run 'medseg preprocess' with --instances and a label's name"
            )
        return read_array(path, np.int32, self.model_grid(case_id).shape)

    def foreground(self, case_id: str) -> Array:
        """Returns some voxels of each label of a case, int32 ``(n, 4)``: label, x, y, z."""
        return read_voxels(self._path(case_id, "foreground"), 1, self.model_grid(case_id).shape)

    def components(self, case_id: str) -> Array:
        """Returns some voxels of each connected component of a case, int32 ``(n, 5)``: label, component, x, y, z.

        Raises:
            SourceError: An older version prepared the case.
        """
        path = self._path(case_id, "components")
        if not path.is_file():
            raise SourceError(f"{path}: is missing, and training.foreground_by=components needs it; {AGAIN}")
        return read_voxels(path, 2, self.model_grid(case_id).shape)

    def annotated_voxels(self, case_id: str) -> Array | None:
        """Returns some annotated voxels of a case, int32 ``(n, 3)``: x, y, z; None where no voxel is ignored."""
        path = self._path(case_id, "annotated")
        return read_voxels(path, 0, self.model_grid(case_id).shape) if path.is_file() else None

    def targets(self, case_id: str, kind: TargetKind, dims: int) -> Array:
        """Returns what networks learn of the objects of a case, uint8 ``(x, y, z)``, memory-mapped.

        Args:
            case_id: The case.
            kind: Of the target: see ``medseg.instances.targets``.
            dims: Spatial axes that the network sees, 2 or 3. ``store_targets`` has made the files.
        """
        return read_array(self.target_path(case_id, kind, dims), np.uint8, self.model_grid(case_id).shape)

    def target_path(self, case_id: str, kind: TargetKind, dims: int) -> Path:
        """Returns where such a target lies."""
        return self._path(case_id, target_name(kind, dims))

    def is_annotated(self, case_id: str) -> Array:
        """Returns for the background and each label whether it was drawn where it is, bool ``(network value,)``."""
        unknown = self.labels.unannotated(self.cases[case_id].annotated)
        return np.array([True, *(value not in unknown for value in self.labels.values)])

    def check_values(self, case_id: str, label_map: Array) -> None:
        """Checks that a part of a case's label map holds network values only.

        Raises:
            SourceError: It holds something else.
        """
        if ((label_map > len(self.labels.items)) & (label_map != IGNORED)).any():
            path = self._path(case_id, "label_map")
            raise SourceError(f"{path}: holds {label_map[label_map != IGNORED].max()}, which is no label; {AGAIN}")

    def model_grid(self, case_id: str) -> Geometry:
        """Returns the grid of the stored arrays."""
        return self._grids[case_id]

    def source_grid(self, case_id: str) -> Geometry:
        """Returns the grid of the user's own image."""
        return self.cases[case_id].source_grid.geometry

    def label_path(self, case_id: str) -> Path:
        """Returns where the label map of the source is."""
        return self.folder / (self.cases[case_id].label or "")

    def objects_path(self, case_id: str) -> Path | None:
        """Returns where the object map of the source is, on the source grid; None where there is none."""
        stored = self.cases[case_id].objects
        return None if stored is None else self.folder / stored

    def image_paths(self, case_id: str) -> list[Path]:
        """Returns where the images of the source are, one a channel."""
        return [self.folder / image for image in self.cases[case_id].images]

    def source_cases(self, case_ids: Sequence[str]) -> list[Case]:
        """Returns cases with the images that they were prepared from.

        Args:
            case_ids: Which ones.

        Raises:
            SourceError: One of their files, label maps among them, is gone.
        """
        for path in (path for each in case_ids for path in [*self.image_paths(each), self.label_path(each)]):
            if not path.exists():
                raise SourceError(
                    f"{path}: is gone, and validation reads the files that were prepared; bring it back, or run "
                    "'medseg preprocess' again"
                )
        cases = (Case(case_id, tuple(source_of(path) for path in self.image_paths(case_id))) for case_id in case_ids)
        return [spaced(case, self.cases[case.case_id].spacing) for case in cases]

    def _known(self, case_ids: Iterable[str]) -> tuple[str, ...]:
        """Returns case ids that are there.

        Raises:
            SourceError: There is no such case.
        """
        chosen = tuple(case_ids)
        for case_id in chosen:
            if case_id not in self.cases:
                raise SourceError(f"{self.folder}: has no case '{case_id}'")
        return chosen

    @cached_property
    def _grids(self) -> dict[str, Geometry]:
        return {case.case_id: (case.model_grid or case.source_grid).geometry for case in self.record.cases}

    def _path(self, case_id: str, name: str) -> Path:
        return self.folder / "cases" / case_id / f"{name}.npy"
