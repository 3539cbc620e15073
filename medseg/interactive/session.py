"""A session of a person with one image: prompts in, masks of objects out, on the grid of the image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.dataset.cases import Case
from medseg.dataset.layouts import find_cases
from medseg.device import Device
from medseg.errors import GeometryError, SourceError
from medseg.inferers.backends import OneByOne
from medseg.inferers.model import Model
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import segment
from medseg.interactive.bounds import Bounds
from medseg.interactive.object_mask import MaskChange, ObjectMask
from medseg.interactive.object_predictor import ObjectPredictor, load_promptable
from medseg.interactive.prompted_object import PromptedObject
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble, voxels_of
from medseg.interactive.source_grid import SourceGrid
from medseg.postprocessing.components import postprocess
from medseg.prediction.case_reading import read_case_images
from medseg.transforms.prepared import prepare
from medseg.volume import Array, LabelMap, MaskArray, Shape3, Volume

FIRST_OBJECT = "object"


class InteractiveSession:
    """Segments objects of one image as a user prompts them.

    The image is prepared once. Each answer then looks at a window around the newest prompts, whatever the size of the
    scan; where an object is larger than that, at a coarser and wider one, and at some as they are within. Each object
    has its own prompts and its own mask.

    It is not safe for several threads at a time.

    Args:
        model: A RUN or a model folder of ``medseg train --prompts``; or what ``load_promptable`` gave, so that several
            sessions share a network.
        image: What ``predict`` takes, with one case in it, or a volume that was read.
        device: Of a model that is not loaded yet: "auto", "cpu", "cuda", "cuda:1" or "mps".
        backend: Of a model that is not loaded yet: what runs it, as in ``predict``.

    Raises:
        ModelError: The model cannot be used, or answers to no prompts.
        SourceError: The image cannot be read, is not one case, or has other channels than the model.

    Examples:
        >>> from medseg.interactive.session import InteractiveSession
        >>> session = InteractiveSession("run", "scan.nii.gz")  # doctest: +SKIP
        >>> change = session.add_point((120, 200, 33))  # doctest: +SKIP
        >>> change = session.add_point((150, 190, 33), positive=False)  # doctest: +SKIP
        >>> session.mask.sum(), change.bounds  # doctest: +SKIP
        (10482, ((131, 160), (180, 203), (30, 36)))
    """

    def __init__(
        self,
        model: Model | str | Path,
        image: Volume | str | Path,
        *,
        device: str | Device = "auto",
        backend: str = "auto",
    ) -> None:
        self.model = model if isinstance(model, Model) else load_promptable(model, device, backend)
        self.image = image if isinstance(image, Volume) else _read(image, self.model)
        self._prepared = prepare(self.image, None, self.model.record.plan.grid)
        self._grid = SourceGrid(self.image.geometry, self._prepared.geometry)
        self._predictor = ObjectPredictor(self.model, self._prepared, self._grid)
        self._objects: dict[str, PromptedObject] = {}
        self._name = FIRST_OBJECT

    @property
    def object(self) -> str:
        """The name of the object that prompts belong to; setting it selects an object, or begins one."""
        return self._name

    @object.setter
    def object(self, name: str) -> None:
        self._name = name
        self._objects.setdefault(name, PromptedObject())

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of all objects, in the order in which they were begun."""
        return tuple(self._objects)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts of the present object, from the oldest to the newest, in voxels of the image."""
        return self._present.prompts

    @property
    def mask(self) -> MaskArray:
        """The mask of the present object, ``(x, y, z)`` on the grid of the image."""
        return self._grid.whole(self._present.mask)

    @property
    def label_map(self) -> LabelMap:
        """All objects, ``(x, y, z)`` on the grid of the image: 1, 2, … in their order, later ones over earlier ones.

        Its type is uint8, or uint16 where there are more than 255 objects.
        """
        dtype: npt.DTypeLike = np.uint8 if len(self._objects) < 256 else np.uint16
        result = np.zeros(self.image.geometry.shape, dtype=dtype)
        for value, each in enumerate(self._objects.values(), start=1):
            result[self._grid.whole(each.mask)] = value
        return result

    def add_point(self, index: Sequence[float], positive: bool = True, *, predict: bool = True) -> MaskChange:
        """Adds a point, and returns what changes.

        Args:
            index: Its voxel in the image, ``(x, y, z)``.
            positive: Whether it belongs to the object.
            predict: Whether the network answers now; else with the next prompt, or at ``predict()``.

        Raises:
            GeometryError: It lies outside of the image.
        """
        shape = self.image.geometry.shape
        if len(index) != 3 or not all(-0.5 <= i < n - 0.5 for i, n in zip(index, shape, strict=True)):
            raise GeometryError(
                f"point {_text(index)}: lies outside of the image, whose voxels go up to {_last(shape)}"
            )
        x, y, z = (float(i) for i in index)
        return self._added(Point((x, y, z), positive), predict)

    def add_box(self, bounds: Sequence[Sequence[int]], positive: bool = True, *, predict: bool = True) -> MaskChange:
        """Adds a box that holds the object, or something that is not part of it, and returns what changes.

        Args:
            bounds: Along each axis its first voxel, and the one behind its last; of one voxel along an axis: a box on a
                slice. What lies beyond the image is cut away.
            positive: Whether it holds the object.
            predict: As in ``add_point``.

        Raises:
            GeometryError: It holds no voxel of the image.
        """
        if len(bounds) != 3 or any(len(ends) != 2 for ends in bounds):
            raise GeometryError(f"box {_text(bounds)}: give the first and the last voxel of three axes")
        ends = [(max(int(low), 0), min(int(high), n)) for (low, high), n in zip(bounds, self._shape, strict=True)]
        if any(low >= high for low, high in ends):
            raise GeometryError(
                f"box {_text(bounds)}: holds no voxel of the image, whose voxels go up to {_last(self._shape)}"
            )
        x, y, z = ends
        return self._added(Box((x, y, z), positive), predict)

    def add_scribble(
        self, mask: MaskArray, positive: bool = True, *, predict: bool = True, origin: Shape3 = (0, 0, 0)
    ) -> MaskChange:
        """Adds voxels that were drawn over, all of the object or all of none of it, and returns what changes.

        Args:
            mask: ``(x, y, z)``, of the image or a part of it.
            positive: Whether they belong to the object.
            predict: As in ``add_point``.
            origin: The first voxel of the part.

        Raises:
            GeometryError: The mask is empty, or reaches beyond the image.
        """
        return self._added(Scribble(self._drawn(mask, origin, "scribble"), positive), predict)

    def add_lasso(
        self, mask: MaskArray, positive: bool = True, *, predict: bool = True, origin: Shape3 = (0, 0, 0)
    ) -> MaskChange:
        """Adds a filled outline that holds the object, or something else; all other is as in ``add_scribble``."""
        return self._added(Lasso(self._drawn(mask, origin, "lasso"), positive), predict)

    def add_initial_mask(self, mask: MaskArray, *, predict: bool = False, origin: Shape3 = (0, 0, 0)) -> MaskChange:
        """Puts a mask in the place of what the object was, without its prompts, and returns what changes.

        Args:
            mask: ``(x, y, z)``, of the image or a part of it, beyond which there is nothing of the object.
            predict: Whether the network changes it at once.
            origin: The first voxel of the part.

        Raises:
            GeometryError: It reaches beyond the image.
        """
        self._check_part(mask, origin, "initial mask")
        present, before = self._present, self._present.mask
        present.remember()
        present.prompts, present.answered = (), 0
        present.mask = self._grid.kept(np.asarray(mask, dtype=bool), origin)
        if predict:
            self._answer()
        return self._grid.change(present.mask, before)

    def predict(self) -> MaskChange:
        """Lets the network answer, and returns what changes: to prompts that it has not answered yet, else once more to
        all, and to the mask where there is no prompt."""
        before = self._present.mask
        self._present.remember()
        self._answer()
        return self._grid.change(self._present.mask, before)

    def undo(self) -> MaskChange:
        """Takes back the last prompt, mask, answer or reset of the present object, and returns what changes."""
        before = self._present.mask
        self._present.go_back()
        return self._grid.change(self._present.mask, before)

    def reset(self) -> MaskChange:
        """Forgets prompts and mask of the present object, and returns what changes."""
        present, before = self._present, self._present.mask
        present.remember()
        present.prompts, present.answered, present.mask = (), 0, ObjectMask()
        return self._grid.change(present.mask, before)

    def automatic(self) -> LabelMap:
        """Returns what the model segments without prompts: its labels, in their values, on the grid of the image."""
        record, network = self.model.record, self.model.network
        if isinstance(network, OneByOne):  # which was built for windows with prompts
            network = network.network
        axes = record.plan.mirrored_axes if record.inference.mirror else ()
        predictor = Predictor(network, record.plan, self.model.device, axes)
        found = segment(predictor, self._prepared, record.inference).label_map
        postprocess(found, record.postprocessing, record.labels.names, self.image.geometry.voxel_volume_ml)
        return record.labels.decode(found)

    def seen_around(self, index: Sequence[float]) -> Bounds:
        """Returns the part of the image that the network sees of a point, before it looks wider.

        Args:
            index: The voxel of the point.
        """
        return self._predictor.seen_around(index)

    @property
    def _present(self) -> PromptedObject:
        return self._objects.setdefault(self._name, PromptedObject())

    @property
    def _shape(self) -> Shape3:
        return self.image.geometry.shape

    def _added(self, prompt: Prompt, predict: bool) -> MaskChange:
        present, before = self._present, self._present.mask
        present.remember()
        present.prompts = (*present.prompts, prompt)
        if predict:
            self._answer()
        return self._grid.change(present.mask, before)

    def _answer(self) -> None:
        present = self._present
        newest = present.prompts[present.answered :] or present.prompts
        if newest or present.mask.voxels.size:
            present.mask = self._predictor.mask(present.prompts, newest, present.mask)
        present.answered = len(present.prompts)

    def _drawn(self, mask: MaskArray, origin: Shape3, what: str) -> Array:
        """Returns the voxels that were drawn, ``(voxel, 3)``."""
        self._check_part(mask, origin, what)
        voxels = voxels_of(np.asarray(mask, dtype=bool), origin)
        if not len(voxels):
            raise GeometryError(f"{what}: holds no voxel; draw at least one")
        return voxels

    def _check_part(self, mask: MaskArray, origin: Shape3, what: str) -> None:
        ends = [(low, low + n) for low, n in zip(origin, np.shape(mask), strict=False)]
        if np.ndim(mask) != 3 or any(low < 0 or high > n for (low, high), n in zip(ends, self._shape, strict=True)):
            raise GeometryError(
                f"{what} of {_text(np.shape(mask))} voxels from {_text(origin)} on: does not lie inside of the image, "
                f"which has {_text(self._shape)}"
            )


def _read(image: str | Path, model: Model) -> Volume:
    """Returns the image of the one case in a place, with the channels of a model."""
    cases: Sequence[Case] = find_cases(Path(image), labelled=False).cases
    if len(cases) != 1:
        raise SourceError(f"{image}: holds {len(cases)} cases; give the images of one")
    grid = model.record.plan.grid
    return read_case_images(cases[0], model.record, grid.tolerance, grid.registered).image


def _text(numbers: Sequence[object]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _last(shape: Shape3) -> str:
    return _text([n - 1 for n in shape])
