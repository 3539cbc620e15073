"""A case that the members of a recipe have seen, one after the other: their label maps make up the result."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.decoding import decoding_of
from medseg.inferers.mean_probabilities import MeanProbabilities
from medseg.inferers.memory_plan import MemoryLimit, MemoryLimits
from medseg.inferers.model import Model
from medseg.inferers.predictor import Predictor
from medseg.inferers.recipe import EarlierResult, Member
from medseg.inferers.recipe_model import RecipeModel, named_values, previous_values
from medseg.inferers.segmentation import SegmentationResult, segment
from medseg.labels import Labels
from medseg.postprocessing.components import postprocess
from medseg.prediction.case_reading import ReadImages, prepared_case
from medseg.prediction.case_segmentation import SegmentedCase, segment_case
from medseg.volume import Array, Box, Geometry, MaskArray, Volume, box_of


@dataclass(frozen=True)
class SeenByMember:
    """What a member found.

    Attributes:
        label_map: ``(x, y, z)``, uint8, in the network values of its model, of the voxels in ``box``.
        box: Where it looked, on the grid of the source; None where it had nothing to look at.
        segmented: What was told of it by each of its models.
    """

    label_map: Array
    box: Box | None
    segmented: tuple[SegmentedCase, ...] = ()


def segment_by_recipe(images: ReadImages, recipe: RecipeModel, limits: MemoryLimits | None = None) -> SegmentedCase:
    """Returns what the members of a recipe say of a case together, postprocessed.

    Memory holds the images, the label maps that members to come ask for, and what one member takes.

    Args:
        images: Of the case.
        recipe: The members, their models, and how they work together.
        limits: What the case may take with each of them.

    Raises:
        MedsegError: Memory is too little, or the models of a member cannot be averaged here.
    """
    start, geometry = time.perf_counter(), images.image.geometry
    recipe.device.forget_peak()
    run = _Run(images, recipe, limits)
    labels = recipe.record.labels
    result = np.zeros(geometry.shape, np.uint8)
    parts: list[SegmentedCase] = []
    warnings: list[str] = []
    expected: dict[str, float] = {}
    members = recipe.record.at_work
    for i, member in enumerate(members):
        seen = run.seen_by(member)
        parts += (_told(part) for part in seen.segmented)
        if seen.box is None and member.crop is not None:
            what = ", ".join(member.crop.labels) or "what it looks for"
            warnings.append(f"{member.name} looked nowhere, since {member.crop.member} found nothing of {what}")
        elif member.gives:
            _give(result[seen.box], seen.label_map, member, recipe.models[member.name][0].record.labels, labels)
            sure = seen.segmented[0].expected_dice
            expected |= {name: sure[own] for own, name in member.gives.items() if own in sure}
        run.keep(member, seen, members[i + 1 :])
    changes = postprocess(result, recipe.record.postprocessing, labels.names, geometry.voxel_volume_ml)
    network = sum(part.stages["network"] for part in parts)
    read = images.stages["read"] + sum(part.stages["read"] - images.stages["read"] for part in parts)
    rest = time.perf_counter() - start - network - (read - images.stages["read"])
    told = SegmentationResult(
        result,
        windows=sum(part.segmentation.windows for part in parts),
        skipped_windows=sum(part.segmentation.skipped_windows for part in parts),
        warnings=(*warnings, *(each for part in parts for each in part.segmentation.warnings)),
        network_seconds=network,
    )
    return SegmentedCase(
        case=images.case,
        warnings=images.warnings,
        segmentation=told,
        geometry=geometry,
        oddities=tuple(dict.fromkeys(odd for part in parts for odd in part.oddities)),
        changes=(*(change for part in parts for change in part.changes), *changes),
        maps={},
        expected_dice=expected,
        forecast_mb=max((part.forecast_mb for part in parts if part.forecast_mb is not None), default=None),
        peak_memory_mb=max((part.peak_memory_mb for part in parts), default=recipe.device.peak_memory_mb()),
        stages={"read": read, "network": network, "restore": rest},
    )


class _Run:
    """The members at work on one case, and those of their label maps that are still needed."""

    def __init__(self, images: ReadImages, recipe: RecipeModel, limits: MemoryLimits | None) -> None:
        self.images, self.recipe, self.limits = images, recipe, limits
        self.found: dict[str, Array] = {}  # by member: network values on the grid of the source

    def keep(self, member: Member, seen: SeenByMember, to_come: Sequence[Member]) -> None:
        """Keeps the label map of a member that others to come ask for, and forgets what none does."""
        needed = {name for other in to_come for name in other.needs}
        if member.name in needed:
            whole = np.zeros(self.images.image.geometry.shape, np.uint8)
            if seen.box is not None:
                whole[seen.box] = seen.label_map
            self.found[member.name] = whole
        self.found = {name: label_map for name, label_map in self.found.items() if name in needed}

    def seen_by(self, member: Member) -> SeenByMember:
        """Returns what a member finds in its box."""
        grid = self.images.image.geometry
        around = member.crop
        box = grid.box if around is None else surrounding_box(self.mask(around), grid, around.margin_mm)
        if box is None:
            return SeenByMember(np.zeros((0, 0, 0), np.uint8), None)
        image = self.images.image.cropped(box)
        if member.previous is not None:
            image = self._with_previous(image, member, box)
        images = replace(self.images, image=image)
        models = self.recipe.models[member.name]
        segmented = [self._segmented(images, models[0])] if len(models) == 1 else self._averaged(images, models)
        label_map = segmented[0].segmentation.label_map
        if member.within is not None:
            near = dilated(self.mask(member.within, box), image.geometry, member.within.margin_mm)
            label_map = np.where(near, label_map, 0)
        return SeenByMember(label_map, box, tuple(segmented))

    def mask(self, found: EarlierResult, box: Box | None = None) -> MaskArray:
        """Returns the mask of what an earlier member found, on the grid of the source or in a box of it."""
        label_map = self.found[found.member] if box is None else self.found[found.member][box]
        table = np.zeros(256, bool)
        table[list(named_values(found, self.recipe.models))] = True
        mask: MaskArray = table[label_map]
        return mask

    def _with_previous(self, image: Volume, member: Member, box: Box) -> Volume:
        """Returns an image with a channel of 0 and 1 behind its own for each label of the stage before."""
        if member.previous is None:
            return image
        label_map = self.found[member.previous.member][box]
        masks = [label_map == value for value in previous_values(member, self.recipe.models)]
        return Volume(np.concatenate([image.array, np.stack(masks).astype(image.array.dtype)]), image.geometry)

    def _segmented(self, images: ReadImages, model: Model) -> SegmentedCase:
        """Returns what one model says, postprocessed by its rules."""
        config = model.record.inference
        return segment_case(prepared_case(images, model, config, self._limit(model)), model, config)

    def _limit(self, model: Model) -> MemoryLimit | None:
        return None if self.limits is None else self.limits.of(model, model.record.inference)

    def _averaged(self, images: ReadImages, models: Sequence[Model]) -> list[SegmentedCase]:
        """Returns what each model says; the label map of the first one is that of the mean of all probabilities."""
        decoding, grid = decoding_of(models[0].record.plan), images.image.geometry
        mean = MeanProbabilities(decoding, len(models[0].record.outputs), len(models), grid)
        told = []
        for model in models:
            start = time.perf_counter()
            config, plan = model.record.inference, model.record.plan
            read = prepared_case(images, model, config, self._limit(model))
            predictor = Predictor(model.network, plan, model.device, plan.mirrored_axes if config.mirror else ())
            memory_plan = None if read.memory is None else read.memory.memory_plan
            observers = [mean.observer(plan.grid.oriented(grid).orientation)]
            result = segment(predictor, read.prepared, config, memory_plan, observers)
            network = result.network_seconds
            told.append(
                SegmentedCase(
                    case=images.case, warnings=(), segmentation=result, geometry=grid, oddities=read.oddities,
                    changes=(), maps={}, expected_dice={},
                    forecast_mb=None if read.memory is None else read.memory.peak / 2**20,
                    peak_memory_mb=model.device.peak_memory_mb(),
                    stages={**read.stages, "network": network, "restore": time.perf_counter() - start - network},
                )
            )  # fmt: skip
        first = replace(told[0].segmentation, label_map=mean.label_map())
        return [replace(told[0], segmentation=first), *told[1:]]


def _told(part: SegmentedCase) -> SegmentedCase:
    """Returns what is told of a case, without the label map, which takes memory."""
    return replace(part, segmentation=replace(part.segmentation, label_map=np.zeros((0, 0, 0), np.uint8)))


def _give(result: Array, label_map: Array, member: Member, own: Labels, labels: Labels) -> None:
    """Writes what a member gives into the result, which is changed, and erases what it erases.

    Args:
        result: What the recipe says, ``(x, y, z)`` in its network values, in the box of the member.
        label_map: What the member found there, in its own network values.
        member: Which of its labels count, and as what.
        own: The labels of its model.
        labels: Those of the recipe.
    """
    values = {name: value for value, name in enumerate(own.names, start=1)}
    becomes, is_written = np.zeros(256, np.uint8), np.zeros(256, bool)
    for name, given in member.gives.items():
        becomes[values[name]] = labels.names.index(given) + 1
    is_written[[values[name] for name in (*member.gives, *member.erases)]] = True
    np.copyto(result, becomes[label_map], where=is_written[label_map])


def surrounding_box(mask: MaskArray, grid: Geometry, margin_mm: float) -> Box | None:
    """Returns the box of a mask with a margin, inside of the grid; None where the mask is empty.

    Args:
        mask: ``(x, y, z)``.
        grid: Where it lies.
        margin_mm: On each side of each axis, rounded down to voxels, as TotalSegmentator does.
    """
    return box_of(mask, [int(margin_mm / edge) for edge in grid.spacing])


def dilated(mask: MaskArray, grid: Geometry, margin_mm: float) -> MaskArray:
    """Returns a mask, dilated over faces by as many voxels as the margin has mean edges, rounded down.

    Args:
        mask: ``(x, y, z)``.
        grid: Where it lies.
        margin_mm: How far the mask grows.
    """
    from scipy.ndimage import binary_dilation  # takes long to import

    steps = int(margin_mm / np.mean(grid.spacing))
    if steps == 0:  # which SciPy takes for: until nothing changes
        return mask
    grown: MaskArray = binary_dilation(mask, iterations=steps)
    return grown
