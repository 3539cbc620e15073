"""One case: read, prepare, slide windows, restore to the source grid, write."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.dataset.image_warnings import LOST_SPACING, header_warnings, says_no_spacing
from medseg.dataset.reading import read_images
from medseg.dataset.spacing import shown_spacing
from medseg.decoding import decoding_of
from medseg.errors import MedsegError, OutputError, SourceError
from medseg.evaluation.calibration import PROBABILITIES, map_paths
from medseg.inferers.confidence import ChosenLabelProbability, Confidence
from medseg.inferers.memory_plan import MemoryForecast, MemoryLimit, in_units
from medseg.inferers.model import Model, ModelRecord
from medseg.inferers.predictor import Predictor
from medseg.inferers.review import removed_surely
from medseg.inferers.segmentation import Segmentation, Watcher, segment
from medseg.inferers.uncertainty import Maps
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import Format, Written, usual_format, write_mask
from medseg.io.parts import volumes_of
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.postprocessing.components import Change, postprocess
from medseg.progress import say
from medseg.transforms.intensities import unlike
from medseg.transforms.preprocessing import Prepared, prepare
from medseg.volume import Array, Geometry, Volume
from medseg.workflows.prediction import Prediction
from medseg.workflows.predictions_file import stamps

UNCERTAINTY = "uncertainty"

# DICOM's modalities, and what people call these in the names of channels.
MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}


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
class SegmentedCase:
    """What the network says of a case, postprocessed."""

    case: Case
    warnings: tuple[str, ...]  # about its images
    segmentation: Segmentation
    geometry: Geometry
    oddities: tuple[str, ...]  # of the values of its images
    changes: tuple[Change, ...]  # by postprocessing
    maps: dict[str, Maps]
    expected_dice: dict[str, float]
    forecast_mb: float | None
    peak_memory_mb: float
    stages: dict[str, float]


@dataclass(frozen=True)
class CasePredictor:
    """What is asked about every case: of which model, and what is to be made. Masks, and the ``extras``, are written
    into ``folder``, the mask of a single case into ``file``, or label maps are kept where both are None."""

    model: Model
    folder: Path | None
    config: InferenceConfig
    formats: tuple[Format, ...] = ()  # (): the usual one of each image
    registered: bool = False  # channels on different grids show one place
    memory_limit: MemoryLimit | None = None  # of memory
    extras: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)  # warnings about cases that have the image of another
    file: Path | None = None

    def predict(self, case: Case) -> Prediction:
        return self.write(self.segment(self.read(case)))

    def read(self, case: Case) -> ReadCase:
        """Reads and prepares the images, once it is clear that masks can be written and that there is room."""
        start = time.perf_counter()
        self.model.device.forget_peak()
        record = self.model.record
        refusals = [format_.refusal(case.images[0]) for format_ in self._formats_of(case)]
        if self.is_written and all(refusals):  # before anything is computed
            raise OutputError("; ".join(refusals))
        grid = record.plan.grid
        image = _with_missing(read_images(case, grid.tolerance, self.registered or grid.registered), case.missing)
        if len(image.array) != len(record.channels):
            raise SourceError(
                f"{case.images[0].path}: number of channels is {len(image.array)}, the model was trained on "
                f"{len(record.channels)} ({', '.join(record.channels)}); {_how_to_give(record.channels, case.images)}"
            )
        memory = None if self.memory_limit is None else self.memory_limit.plan_for(self.model, image, self.config)
        if memory is not None:
            say(f"{case.case_id}: takes up to {in_units(memory.peak)} of memory")
        prepared = prepare(image, None, record.plan.grid)
        prepared.image[list(case.missing)] = 0  # whatever the normalization makes of zeros
        doubts = (*_doubts(case, image.geometry, record), *filter(None, [self.copies.get(case.case_id)]))
        oddities = tuple(_oddities(case, record, prepared))
        return ReadCase(case, prepared, memory, doubts, oddities, {"read": time.perf_counter() - start})

    def segment(self, read_case: ReadCase) -> SegmentedCase:
        """Lets the network see a case, and postprocesses what it says."""
        start = time.perf_counter()
        record, prepared, memory = self.model.record, read_case.prepared, read_case.memory
        geometry, of_header = prepared.source, _header_grid(read_case.case.images[0], prepared.source)
        maps = {name: _maps(name, record, of_header) for name in self.extras}
        confidence = Confidence(record.labels, decoding_of(record.plan), prepared.geometry.shape)
        axes = record.plan.mirrored_axes if self.config.mirror else ()
        predictor = Predictor(self.model.network, record.plan, self.model.device, axes)
        memory_plan = None if memory is None else memory.memory_plan
        rules = record.postprocessing
        probability = ChosenLabelProbability(prepared.geometry) if rules and not record.plan.regions else None
        watchers: list[Watcher] = [confidence] if probability is None else [confidence, probability]
        segmentation = segment(predictor, prepared, self.config, memory_plan, list(maps.values()), watchers)
        for change in self.model.device.threads.told():
            say(change)
        sure = None if probability is None else lambda voxels: probability.at(geometry.world(voxels))
        changes = postprocess(segmentation.label_map, rules, record.labels.names, geometry.voxel_volume_ml, sure)
        network = segmentation.network_seconds
        return SegmentedCase(
            case=read_case.case,
            warnings=read_case.warnings,
            segmentation=segmentation,
            geometry=geometry,
            oddities=read_case.oddities,
            changes=changes,
            maps=maps,
            expected_dice=confidence.expected_dice,
            forecast_mb=None if memory is None else memory.peak / 2**20,
            peak_memory_mb=self.model.device.peak_memory_mb(),
            stages={**read_case.stages, "network": network, "restore": time.perf_counter() - start - network},
        )

    def write(self, segmented_case: SegmentedCase) -> Prediction:
        """Writes the masks and certifies them, or keeps the label map."""
        start = time.perf_counter()
        record, case, geometry = self.model.record, segmented_case.case, segmented_case.geometry
        of_header = _header_grid(case.images[0], geometry)
        label_map = Volume(record.labels.decode(segmented_case.segmentation.label_map)[None], of_header)
        voxels = _voxels(segmented_case.segmentation.label_map, record.labels)
        volumes_ml = {name: n * geometry.voxel_volume_ml for name, n in voxels.items()}
        reasons = [*segmented_case.oddities, *removed_surely(segmented_case.changes)]
        reasons += [] if record.review is None else record.review.reasons(segmented_case.expected_dice, volumes_ml)
        segmented = LabelMapVolume(
            label_map.label_map, label_map.geometry, record.labels, case.images[0], self.model.name
        )
        masks: tuple[Written, ...] = ()
        not_written: tuple[str, ...] = ()
        if self.folder is not None:
            _write_maps(self.folder, case.case_id, segmented_case.maps)  # before the masks: where these are, all is
        if self.is_written:
            paths = {format_: self._path(format_, case.case_id) for format_ in self._formats_of(case)}
            masks, not_written = _write(paths, segmented)
        return Prediction(
            case_id=case.case_id,
            source=case.images[0].path / case.images[0].part,
            spacing=case.spacing,
            stages={**segmented_case.stages, "write": time.perf_counter() - start},
            peak_memory_mb=max(segmented_case.peak_memory_mb, self.model.device.peak_memory_mb()),
            forecast_mb=segmented_case.forecast_mb,
            voxels=voxels,
            volumes_ml={} if case.images[0].kind == "image2d" else volumes_ml,
            expected_dice=segmented_case.expected_dice,
            estimated_dice={} if record.review is None else record.review.estimates(segmented_case.expected_dice),
            review=None if record.review is None and not reasons else bool(reasons),
            review_reasons=tuple(reasons),
            changes=segmented_case.changes,
            warnings=(
                *segmented_case.warnings,
                *segmented_case.oddities,
                *segmented_case.segmentation.warnings,
                *map(str, segmented_case.changes),
                *_warnings(case, record, voxels),
            ),
            windows=segmented_case.segmentation.windows,
            skipped_windows=segmented_case.segmentation.skipped_windows,
            masks=masks,
            not_written=not_written,
            extras=self.extras,
            images=stamps(case),
            kept=None if self.is_written else label_map,
        )

    @property
    def is_written(self) -> bool:
        return self.folder is not None or self.file is not None

    def _path(self, format_: Format, case_id: str) -> Path:
        return self.file or format_.path(self.folder or Path(), case_id)

    def _formats_of(self, case: Case) -> Sequence[Format]:
        return self.formats or [usual_format(case.images[0])]


def _maps(name: str, record: ModelRecord, source: Geometry) -> Maps:
    orientation, decoding = record.plan.grid.orientation, decoding_of(record.plan)
    if name == UNCERTAINTY:
        return Maps(["entropy"], decoding.entropy, source, orientation)
    unions = record.labels.unions
    return Maps(list(unions), partial(decoding.probabilities, unions=unions), source, orientation)


def _write_maps(folder: Path, case_id: str, all_maps: Mapping[str, Maps]) -> None:
    """FOLDER/uncertainty/CASE.nii.gz, FOLDER/probabilities/CASE/LABEL.nii.gz."""
    for name, maps in all_maps.items():
        if name == UNCERTAINTY:
            maps.write(lambda _: folder / UNCERTAINTY / f"{case_id}.nii.gz")
        else:
            maps.write(map_paths(folder / PROBABILITIES / case_id, maps.names).__getitem__)


def _how_to_give(channels: Sequence[str], images: Sequence[ImageSource]) -> str:
    """What to do about an image, or images, of another number of channels."""
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


def _doubts(case: Case, first: Geometry, record: ModelRecord) -> Iterator[str]:
    """What is doubtful about the images of a case, as ``inspect`` says it. ``first``: the grid of the first image."""
    for number, source in enumerate(case.images):
        grid = first if number == 0 or source.kind == "dicom" else read_geometry(source)  # DICOM's takes long
        which = f"{source.path.name}: " if len(case.images) > 1 else ""
        yield from (f"{which}{note}" for note in source.notes)
        is_as_in_training = bool(record.said_spacings) and says_no_spacing(source, grid)
        if is_as_in_training:
            said = " or ".join(f"--spacing {shown_spacing(spacing)}" for spacing in record.said_spacings)
            yield (
                f"{which}its header says no more of its voxels than 1×1×1 mm, as headers did in training, where it was "
                f"said what is true; if that is true here, say it again: {said}"
            )
        doubts = header_warnings(source, grid)
        yield from (f"{which}{doubt}" for doubt in doubts if not (is_as_in_training and doubt.rule == LOST_SPACING))


def _header_grid(source: ImageSource, grid: Geometry) -> Geometry:
    """That of masks, which keep the header of the source, whatever was said of its voxels. ``grid``: as it was read."""
    return grid if source.spacing is None else read_geometry(replace(source, spacing=None))


def _oddities(case: Case, record: ModelRecord, prepared: Prepared) -> Iterator[str]:
    """What is odd about the values of a case's images: in themselves, and against those of the training data."""
    for i, channel in enumerate(record.channels):
        if i in case.missing:
            continue
        what = prepared.oddities.get(i)
        if what is None and record.usual_values:
            what = unlike(prepared.profiles[i], record.usual_values[i])
        if what is not None:
            yield f"{channel}: {what}"


def _warnings(case: Case, record: ModelRecord, voxels: dict[str, int]) -> Iterator[str]:
    if case.missing:
        lacking = ", ".join(record.channels[i] for i in case.missing)
        yield f"has no {lacking}: zeros stand for it, as in training with channel dropout"
    there = [channel for i, channel in enumerate(record.channels) if i not in case.missing]
    for source, channel in zip(case.images, there, strict=False):
        shown, trained = MODALITIES.get(source.modality.upper()), MODALITIES.get(channel.upper())
        if shown and trained and shown != trained:
            yield f"the image is {source.modality}, the model was trained on {channel}"
    missing = [name for name, n in voxels.items() if n == 0]
    if missing:
        yield f"no voxel of {', '.join(missing)} was found"


def _with_missing(image: Volume, missing: Sequence[int]) -> Volume:
    """With zeros for the channels that a case lacks."""
    if not missing:
        return image
    return Volume(np.insert(image.array, [at - i for i, at in enumerate(missing)], 0, axis=0), image.geometry)


def _voxels(encoded: Array, labels: Labels) -> dict[str, int]:
    """Of network values, by name of label or region."""
    of_value = {value: int(np.count_nonzero(encoded == i)) for i, value in enumerate(labels.values, start=1)}
    return {structure.name: sum(of_value[value] for value in structure.values) for structure in labels.structures}


def _write(paths: Mapping[Format, Path], segmented: LabelMapVolume) -> tuple[tuple[Written, ...], tuple[str, ...]]:
    """What was written, and why the rest was not. Raises ``OutputError`` when nothing was."""
    written, errors = [], []
    for format_, path in paths.items():
        try:
            written.append(write_mask(format_, path, segmented))
        except MedsegError as error:
            errors.append(str(error))
    if not written:
        raise OutputError("; ".join(errors))
    return tuple(written), tuple(errors)
