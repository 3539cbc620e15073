"""The masks of a case: written in each format, read back by another reader, and accounted for."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medseg.dataset.cases import Case
from medseg.errors import MedsegError, OutputError
from medseg.evaluation.predictions_json import OBJECTS, PROBABILITIES, map_paths
from medseg.files import ensure_folder
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.recipe import Recipe
from medseg.inferers.recipe_model import RecipeModel
from medseg.inferers.review import judge
from medseg.inferers.uncertainty import Maps
from medseg.inferers.windows import window_overlap
from medseg.instances.grouping import Objects
from medseg.instances.object_structures import coloured
from medseg.io.dicom.derived_object import NOT_CLINICAL
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import Format, Written, segmentation_form, usual_format, write_mask
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.prediction.case_objects import counts_by_label, with_label_values, write_object_map, write_object_table
from medseg.prediction.case_reading import header_grid
from medseg.prediction.case_segmentation import UNCERTAINTY, SegmentedCase
from medseg.prediction.predictions_file import stamps
from medseg.prediction.radiomics import RADIOMICS, case_radiomics, write_case_radiomics
from medseg.prediction.result import Prediction
from medseg.prediction.statistics import STATISTICS, CaseStatistics, measured_case, write_case_statistics
from medseg.structures import Label
from medseg.version import VERSION
from medseg.volume import Array, Volume

PREVIEW = "preview"  # the folder of pictures beside predictions.json
HOW_COMPUTED = {"window", "window_batch_size"}  # settings that are chosen by what memory there is

# DICOM's modalities, and what people call these in the names of channels.
MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}


def write_case(
    segmented_case: SegmentedCase,
    model: Model | RecipeModel,
    paths: Mapping[Format, Path],
    folder: Path | None = None,
    reports: Sequence[str] = (),
) -> Prediction:
    """Writes the masks of a case and certifies them.

    Args:
        segmented_case: What the network said.
        model: Whose labels the masks have.
        paths: Where the mask of each format goes; without any, the label map is kept in memory.
        folder: Where probabilities, uncertainty and reports go, in folders of these names.
        reports: What else is written of it: "statistics", "radiomics", "preview".

    Raises:
        OutputError: No mask could be written.
        SourceError: The image cannot be read again for a report.
    """
    start = time.perf_counter()
    record, case, geometry = model.record, segmented_case.case, segmented_case.geometry
    encoded, objects = segmented_case.segmentation.label_map, segmented_case.objects
    label_map = Volume(record.labels.decode(encoded)[None], header_grid(case.images[0], geometry))
    counts = [int(np.count_nonzero(encoded == i)) for i in range(1, len(record.labels.values) + 1)]
    voxels = voxels_by_structure(counts, record.labels)
    volumes_ml = {name: n * geometry.voxel_volume_ml for name, n in voxels.items()}
    expected = segmented_case.expected_dice
    judgement = judge(record.review, expected, volumes_ml, segmented_case.oddities, segmented_case.changes)
    segmented = LabelMapVolume(
        label_map.label_map,
        label_map.geometry,
        record.labels,
        case.images[0],
        model.name,
        segmentation_form([format_.name for format_ in paths]),
        prediction_digest(model, case) if any(format_.on_dicom for format_ in paths) else "",
        None if objects is None else partial(_painted, encoded, objects, record.labels),
    )
    if folder is not None:
        # Before the masks: where these are, all is.
        _write_maps(folder, case.case_id, segmented_case.maps)
        _write_objects(folder / OBJECTS, segmented_case, segmented)
        _write_reports(folder, segmented_case, segmented, record.channels, reports)
    masks, not_written = _write(paths, segmented) if paths else ((), ())
    return Prediction(
        case_id=case.case_id,
        source=case.images[0].path / case.images[0].part,
        spacing=case.spacing,
        stages={**segmented_case.stages, "write": time.perf_counter() - start},
        peak_memory_mb=max(segmented_case.peak_memory_mb, model.device.peak_memory_mb()),
        forecast_mb=segmented_case.forecast_mb,
        voxels=voxels,
        volumes_ml={} if case.images[0].kind == "image2d" else volumes_ml,
        expected_dice=expected,
        **judgement._asdict(),
        changes=segmented_case.changes,
        warnings=(
            *segmented_case.warnings,
            *segmented_case.oddities,
            *segmented_case.segmentation.warnings,
            *map(str, segmented_case.changes),
            *case_warnings(case, record, voxels),
        ),
        windows=segmented_case.segmentation.windows,
        skipped_windows=segmented_case.segmentation.skipped_windows,
        masks=masks,
        not_written=not_written,
        extras=(*segmented_case.maps, *reports),
        images=stamps(case),
        kept=None if paths else label_map,
        n_objects=counts_by_label(objects, record.labels),
        objects=None if folder is not None else objects,
    )


def prediction_digest(model: Model | RecipeModel, case: Case) -> str:
    """Returns a digest of what predicts a case: its weights, rules and settings, and images beside the first.

    What is not in it says only how it is computed, and changes few voxels: device, back end, threads, size of windows.

    Args:
        model: With the settings that it predicts by.
        case: Its first image has UIDs of its own in DICOM objects.

    Returns:
        The SHA-256; "" where the weights are in memory only.
    """
    try:
        texts = [model.fingerprint, model.record.labels.model_dump_json()]
    except OSError:
        return ""
    if isinstance(model, RecipeModel):
        texts.append(model.record.model_dump_json(exclude_defaults=True, exclude={"medseg", "origin", "labels"}))
    for each in model.every_model if isinstance(model, RecipeModel) else [model]:
        inference = each.record.inference
        inference = inference.model_copy(update={"overlap": window_overlap(inference)})  # None is one of them, too
        settings = inference.model_dump_json(exclude_defaults=True, exclude=HOW_COMPUTED)
        plan = each.record.plan.model_dump_json(exclude_defaults=True)  # with the head, and how images are resampled
        texts += [settings, plan, *(rule.model_dump_json(exclude_defaults=True) for rule in each.record.postprocessing)]
    texts += [f"{image.series_uid} {image.part}" for image in case.images[1:]]
    texts.append(repr(case.spacing))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _painted(encoded: Array, objects: Objects, labels: Labels) -> tuple[Array, tuple[Label, ...]]:
    """Returns what pictures show where objects are told apart: each in a colour that its neighbours don't have."""
    return coloured(encoded, labels, with_label_values(objects, labels))


def _write_objects(folder: Path, segmented_case: SegmentedCase, segmented: LabelMapVolume) -> None:
    """Writes FOLDER/CASE.nii.gz and FOLDER/CASE.csv, where objects are told apart."""
    case, objects = segmented_case.case, segmented_case.objects
    if objects is not None:
        write_object_map(folder, case, objects.object_map, segmented.geometry)
        write_object_table(folder, case, objects, segmented.labels, segmented_case.geometry)


def _write_reports(
    folder: Path,
    segmented_case: SegmentedCase,
    segmented: LabelMapVolume,
    channels: Sequence[str],
    reports: Sequence[str],
) -> None:
    """Writes FOLDER/statistics/CASE.json, FOLDER/radiomics/CASE.csv and FOLDER/preview/CASE.png."""
    case = segmented_case.case
    if STATISTICS in reports:
        measures = measured_case(segmented, case, channels)
        write_case_statistics(
            folder, CaseStatistics(case_id=case.case_id, model=segmented.algorithm, measures=measures)
        )
    if RADIOMICS in reports:
        write_case_radiomics(folder, case.case_id, case_radiomics(segmented, channels[0]))
    if PREVIEW in reports:
        from medseg.pictures.overlay import plot_overlay  # takes long to import

        title = f"{case.case_id}: {segmented.algorithm}, medseg {VERSION}, {NOT_CLINICAL}"
        path = ensure_folder(folder / PREVIEW) / f"{case.case_id}.png"
        plot_overlay(segmented.image, *segmented.shown, path, title=title)


def try_mask(case: Case, labels: Labels) -> None:
    """Writes and certifies a mask of a case in a temporary folder.

    Args:
        case: Its first image gives the grid.
        labels: The mask has the first one.

    Raises:
        MedsegError: That fails.
    """
    source = case.images[0]
    grid, format_ = read_geometry(source), usual_format(source)
    label_map = np.zeros(grid.shape, dtype=np.min_scalar_type(labels.values[0]))
    label_map[: grid.shape[0] // 2] = labels.values[0]
    with TemporaryDirectory() as folder:
        write_mask(format_, format_.path(Path(folder), case.case_id), LabelMapVolume(label_map, grid, labels, source))


def _write_maps(folder: Path, case_id: str, all_maps: Mapping[str, Maps]) -> None:
    """Writes FOLDER/uncertainty/CASE.nii.gz and FOLDER/probabilities/CASE/LABEL.nii.gz."""
    for name, maps in all_maps.items():
        if name == UNCERTAINTY:
            maps.write(lambda _: folder / UNCERTAINTY / f"{case_id}.nii.gz")
        else:
            maps.write(map_paths(folder / PROBABILITIES / case_id, maps.names).__getitem__)


def case_warnings(case: Case, record: ModelRecord | Recipe, voxels: Mapping[str, int]) -> Iterator[str]:
    """Yields what is said of a case: channels that it lacks, a modality that is another one, what was not found.

    Args:
        case: The case.
        record: Of the model.
        voxels: By name of label or region.
    """
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


def voxels_by_structure(counts: Sequence[int], labels: Labels) -> dict[str, int]:
    """Returns the number of voxels by name of label or region.

    Args:
        counts: Voxels of each label, in the order of the labels.
        labels: Of the model.
    """
    of_value = dict(zip(labels.values, counts, strict=True))
    return {structure.name: sum(of_value[value] for value in structure.values) for structure in labels.structures}


def _write(paths: Mapping[Format, Path], segmented: LabelMapVolume) -> tuple[tuple[Written, ...], tuple[str, ...]]:
    """Returns what was written, and why the rest was not.

    Raises:
        OutputError: Nothing was written.
    """
    written, errors = [], []
    for format_, path in paths.items():
        try:
            written.append(write_mask(format_, path, segmented))
        except MedsegError as error:
            errors.append(str(error))
    if not written:
        raise OutputError("; ".join(errors))
    return tuple(written), tuple(errors)
