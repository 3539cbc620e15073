"""A case of a dataset, read and prepared for the network, with all that is doubtful about its images."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.dataset.image_warnings import LOST_SPACING, header_warnings, says_no_spacing
from medseg.dataset.reading import read_images
from medseg.dataset.spacing import SaidSpacing, shown_spacing
from medseg.errors import SourceError
from medseg.inferers.memory_plan import MemoryForecast, MemoryLimit, in_units
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.recipe import Recipe
from medseg.io.parts import volumes_of
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.progress import say
from medseg.transforms.intensities import Floats, unlike
from medseg.transforms.prepared import Prepared, prepare
from medseg.volume import Geometry, Volume


@dataclass(frozen=True)
class ReadCase:
    """A case that the network can see."""

    case: Case
    prepared: Prepared
    memory: MemoryForecast | None  # where memory is to be saved
    warnings: tuple[str, ...]  # about its images
    oddities: tuple[str, ...]  # of their values, for which a person should look at it
    stages: dict[str, float]  # seconds of work so far


@dataclass(frozen=True)
class ReadImages:
    """The images of a case as they were read, for models that each prepare them in their own way."""

    case: Case
    image: Volume  # a channel for each of the model's; zeros for what the case lacks
    warnings: tuple[str, ...]  # about its images
    stages: dict[str, float]  # seconds of work so far


def read_case_images(case: Case, record: ModelRecord | Recipe, tolerance: float, registered: bool) -> ReadImages:
    """Returns the images of a case.

    Args:
        case: Where its images lie.
        record: Says which channels the model knows.
        tolerance: How far the grids of its images may lie apart, as part of the smallest voxel edge.
        registered: Channels on different grids show one place, and are resampled to the grid of the first.

    Raises:
        SourceError: The images cannot be read, or have another number of channels than the model.
    """
    start = time.perf_counter()
    image = with_missing(read_images(case, tolerance, registered), case.missing)
    if len(image.array) != len(record.channels):
        raise SourceError(
            f"{case.images[0].path}: number of channels is {len(image.array)}, the model was trained on "
            f"{len(record.channels)} ({', '.join(record.channels)}); {how_to_give(record.channels, case.images)}"
        )
    doubts = tuple(image_doubts(case, image.geometry, record.said_spacings))
    return ReadImages(case, image, doubts, {"read": time.perf_counter() - start})


def read_case(
    case: Case, model: Model, config: InferenceConfig, registered: bool = False, memory_limit: MemoryLimit | None = None
) -> ReadCase:
    """Returns a case as the network of a model sees it.

    Args:
        case: Where its images lie.
        model: Says which channels, and on which grid.
        config: The settings of the windows, for the forecast of memory.
        registered: Channels on different grids show one place, and are resampled to the grid of the first.
        memory_limit: What the case may take.

    Raises:
        SourceError: The images cannot be read, or have another number of channels than the model.
        MedsegError: The limit of memory is too low for this case.
    """
    model.device.forget_peak()
    grid = model.record.plan.grid
    images = read_case_images(case, model.record, grid.tolerance, registered or grid.registered)
    return prepared_case(images, model, config, memory_limit)


def prepared_case(
    images: ReadImages, model: Model, config: InferenceConfig, memory_limit: MemoryLimit | None = None
) -> ReadCase:
    """Returns the images of a case as the network of a model sees them; raises as ``read_case`` does."""
    start = time.perf_counter()
    case, image, record = images.case, images.image, model.record
    memory = None if memory_limit is None else memory_limit.plan_for(model, image.geometry, len(image.array), config)
    if memory is not None:
        say(f"{case.case_id}: takes up to {in_units(memory.peak)} of memory")
    prepared = prepare(image, None, record.plan.grid)
    prepared.image[list(case.missing)] = 0  # whatever the normalization makes of zeros
    oddities = tuple(value_oddities(case, record, prepared.profiles, prepared.oddities))
    stages = {"read": images.stages["read"] + time.perf_counter() - start}
    return ReadCase(case, prepared, memory, images.warnings, oddities, stages)


def header_grid(source: ImageSource, grid: Geometry) -> Geometry:
    """Returns the grid of masks, which keep the header of the source, whatever was said of its voxels.

    Args:
        source: The first image of a case.
        grid: As it was read.
    """
    return grid if source.spacing is None else read_geometry(replace(source, spacing=None))


def how_to_give(channels: Sequence[str], images: Sequence[ImageSource]) -> str:
    """Returns what to do about an image, or images, of another number of channels."""
    volumes = [volume.part for volume in volumes_of(images[0])] if len(images) == 1 else []
    if len(channels) == 1 and volumes:
        return (
            f"choose one by its path, {images[0].path / volumes[0]} to {volumes[-1]}, or in each file of a folder with "
            f"--images '**/{volumes[0]}'"
        )
    if len(channels) == 1 and len(images) == 1:
        return "store it in grey values"
    if len(channels) == 1:
        there = ", ".join(str(each.path) for each in images)
        return f"choose one with --images GLOB: there are {there}"
    globs = " ".join(f"--images '{channel}=GLOB'" for channel in channels)
    return (
        f"give all images of a case: {globs}; a model that is trained with augmentation.channel_dropout_probability "
        "does without some"
    )


def image_doubts(case: Case, first: Geometry, said_spacings: Sequence[SaidSpacing]) -> Iterator[str]:
    """Yields what is doubtful about the images of a case, as ``inspect`` says it.

    Args:
        case: The case.
        first: The grid of its first image.
        said_spacings: What was said of voxels in training.
    """
    for number, source in enumerate(case.images):
        grid = first if number == 0 or source.kind == "dicom" else read_geometry(source)  # DICOM's takes long
        which = f"{source.path.name}: " if len(case.images) > 1 else ""
        yield from (f"{which}{note}" for note in source.notes)
        is_as_in_training = bool(said_spacings) and says_no_spacing(source, grid)
        if is_as_in_training:
            said = " or ".join(f"--spacing {shown_spacing(spacing)}" for spacing in said_spacings)
            yield (
                f"{which}its header says no more of its voxels than 1×1×1 mm, as headers did in training, where it was "
                f"said what is true; if that is true here, say it again: {said}"
            )
        doubts = header_warnings(source, grid)
        yield from (f"{which}{doubt}" for doubt in doubts if not (is_as_in_training and doubt.rule == LOST_SPACING))


def value_oddities(
    case: Case, record: ModelRecord, profiles: Sequence[Floats], oddities: Mapping[int, str]
) -> Iterator[str]:
    """Yields what is odd about the values of a case's images: in themselves, and against those of the training data.

    Args:
        case: The case.
        record: Of the model, with the usual values.
        profiles: What is compared of each channel.
        oddities: What is odd in themselves, by channel.
    """
    for i, channel in enumerate(record.channels):
        if i in case.missing:
            continue
        what = oddities.get(i)
        if what is None and record.usual_values:
            what = unlike(profiles[i], record.usual_values[i])
        if what is not None:
            yield f"{channel}: {what}"


def with_missing(image: Volume, missing: Sequence[int]) -> Volume:
    """Returns the image with zeros for the channels that a case lacks.

    Args:
        image: With the channels that it has.
        missing: The numbers of the others among the model's channels.
    """
    if not missing:
        return image
    return Volume(np.insert(image.array, [at - i for i, at in enumerate(missing)], 0, axis=0), image.geometry)
