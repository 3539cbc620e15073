"""What the blocks of a case make together: the model's rules, the mask in each format, and what is said of it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case
from medseg.decoding import decoding_of
from medseg.errors import ConfigError, MedsegError, OutputError
from medseg.files import folder_written_whole
from medseg.inferers.confidence import Confidence
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.review import judge
from medseg.io.certificates.certificate import Certificate
from medseg.io.folders import REJECTED
from medseg.io.mask_formats import NIFTI, OME_ZARR, Format, Written, usual_format
from medseg.io.nifti.check import check_nifti_slabs
from medseg.io.nifti.writer import write_nifti_slabs
from medseg.io.ome_zarr.check import place_checked
from medseg.io.ome_zarr.writer import LabelStore
from medseg.io.read import read_geometry
from medseg.postprocessing.components import RuleEffect, box_around, postprocess
from medseg.prediction.block_on_worker import counted_values
from medseg.prediction.block_work import BlockPlan, BlockRecord, BlockWork
from medseg.prediction.case_predictor import CasePredictor
from medseg.prediction.case_reading import header_grid, image_doubts, value_oddities
from medseg.prediction.case_writing import case_warnings, voxels_by_structure
from medseg.prediction.predictions_file import stamps
from medseg.prediction.result import Prediction
from medseg.progress import say
from medseg.transforms.intensities import profile
from medseg.volume import Array, Box, Geometry

RULE_BYTES = 24  # a voxel of the box that a rule looks at
MOST_WITHOUT_LIMIT = 2**32  # bytes that a rule may take where nobody says a limit
SLAB_VOXELS = 2**24  # that are read at a time


def refused_format(format_: Format) -> str:
    """Returns why a mask cannot be written block by block in a format; empty where it can."""
    if format_ in (NIFTI, OME_ZARR):
        return ""
    return f"{format_.name} is not written block by block; take ome-zarr or nifti, and 'medseg export' a part of it"


def finished_case(
    case: Case, predictor: CasePredictor, work: BlockWork, plan: BlockPlan, records: Sequence[BlockRecord]
) -> Prediction:
    """Returns the prediction of a case all of whose blocks are done, once its masks are in their place.

    Args:
        case: The case.
        predictor: Says the model, and where masks go.
        work: Where the blocks lie.
        plan: Of the blocks.
        records: What became of each.

    Raises:
        OutputError: A mask cannot be written, or is not what was to be written.
    """
    start, model = time.perf_counter(), predictor.model
    if not isinstance(model, Model):
        raise ConfigError(f"{case.case_id}: several members cannot predict it block by block")
    record, store = model.record, LabelStore(work.store)
    geometry = header_grid(case.images[0], read_geometry(case.images[0]))
    voxels = np.sum([each.voxels for each in records], axis=0)
    limits = predictor.options.memory_limits
    limit = MOST_WITHOUT_LIMIT if limits is None else limits.max_memory
    changes, left_out = apply_rules(store, record, records, voxels, geometry, limit)
    confidence = Confidence(record.labels, decoding_of(record.plan), plan.shape)
    for each in records:
        confidence.add(each.confidence)
    by_name = voxels_by_structure(voxels[1:].tolist(), record.labels)
    volumes = {name: n * geometry.voxel_volume_ml for name, n in by_name.items()}
    rules, known = record.plan.grid.normalization, plan.statistics.channels
    profiles = [profile(np.array(each.quantiles), rule) for each, rule in zip(known, rules, strict=True)]
    oddities = [*value_oddities(case, record, profiles, {i: k.oddity for i, k in enumerate(known) if k.oddity})]
    judgement = judge(record.review, confidence.expected_dice, volumes, oddities, changes)
    different = sum(each.different for each in records)
    masks, not_written = _masks(case, predictor, store, geometry, different)
    first_look = ("first look: is left out where blocks are predicted",) if predictor.config.first_look else ()
    network = sum(each.network_seconds for each in records)
    return Prediction(
        case_id=case.case_id,
        source=case.images[0].path / case.images[0].part,
        spacing=case.spacing,
        stages={
            "network": network,
            "restore": sum(each.seconds for each in records) - network,
            "write": time.perf_counter() - start,
        },
        peak_memory_mb=max(model.device.peak_memory_mb(), *(each.peak_memory_mb for each in records)),
        voxels=by_name,
        volumes_ml=volumes,
        warnings=(
            *image_doubts(case, geometry, record.said_spacings),
            *oddities,
            *first_look,
            *left_out,
            *map(str, changes),
            *case_warnings(case, record, by_name),
        ),
        changes=changes,
        windows=sum(each.windows for each in records),
        skipped_windows=sum(each.windows - each.asked for each in records),
        masks=masks,
        not_written=not_written,
        expected_dice=confidence.expected_dice,
        **judgement._asdict(),
        images=stamps(case),
    )


def apply_rules(
    store: LabelStore,
    record: ModelRecord,
    records: Sequence[BlockRecord],
    voxels: Array,
    geometry: Geometry,
    limit: int,
) -> tuple[tuple[RuleEffect, ...], list[str]]:
    """Changes a label map on disk by the model's rules, each in the box of its labels.

    Args:
        store: The label map.
        record: Of the model.
        records: Of the blocks, which say where labels lie.
        voxels: How many there are of each network value; it is changed.
        geometry: The grid of the label map.
        limit: Bytes that a rule may take.

    Returns:
        What was changed, and what is said of rules that would take more.
    """
    changes: list[RuleEffect] = []
    left_out: list[str] = []
    names, labels = record.labels.names, record.labels
    for rule in record.postprocessing:
        values = [names.index(name) for name in rule.labels]
        there = [each.boxes[i] for each in records for i in values]
        box = box_around(*(tuple(slice(*ends) for ends in each) for each in there if each is not None))
        if box is None:
            continue
        if RULE_BYTES * prod(part.stop - part.start for part in box) > limit or rule.on_model_grid:
            left_out.append(f"the rule '{rule}' was left out, which looks at more than fits into memory")
            continue
        place = (box[0], box[1], box[2])
        part = labels.encode(store.read(place))
        before = counted_values(part, len(names))
        effects = postprocess(part, [rule], names, geometry.voxel_volume_ml)
        if effects:
            store.write(place, labels.decode(part))
            voxels += counted_values(part, len(names)) - before
            changes += effects
    return tuple(changes), left_out


def _masks(
    case: Case, predictor: CasePredictor, store: LabelStore, geometry: Geometry, different: int
) -> tuple[tuple[Written, ...], tuple[str, ...]]:
    """Returns the masks, and why others were not written; the store itself is moved last."""
    formats = predictor.options.formats or (usual_format(case.images[0]),)
    written, errors = [], []
    for format_ in sorted(formats, key=lambda each: each == OME_ZARR):
        path = predictor.path(format_, case.case_id)
        try:
            if (refusal := refused_format(format_)) or (refusal := format_.refusal(case.images[0])):
                raise OutputError(f"{path}: {refusal}")
            certificate = (
                _moved(store, path, geometry, different) if format_ == OME_ZARR
                else _as_nifti(case, store, path, geometry, different)
            )  # fmt: skip
            if certificate.fault:
                path.rename(path.with_name(path.name + REJECTED))
                raise OutputError(f"{path}: is not what was to be written ({certificate.fault}); it is kept aside")
            written.append(Written(format_, path, (path,), certificate))
        except MedsegError as error:
            errors.append(str(error))
    if not written:
        raise OutputError("; ".join(errors))
    return tuple(written), tuple(errors)


def _moved(store: LabelStore, path: Path, geometry: Geometry, different: int) -> Certificate:
    """Moves the label map to its place, once it has coarser levels."""
    say(f"{path.name}: writing coarser levels")
    store.add_levels(geometry)
    with folder_written_whole(path, replaces=True) as folder:
        for each in list(store.folder.iterdir()):
            each.rename(folder / each.name)
    return place_checked(path, geometry, different)


def _as_nifti(case: Case, store: LabelStore, path: Path, geometry: Geometry, different: int) -> Certificate:
    say(f"{path.name}: writing NIfTI, slab by slab")
    source = case.images[0]
    like = source.path if source.kind == "nifti" else None
    write_nifti_slabs(path, _slabs(store, geometry), geometry, np.dtype(store.array.dtype), like)
    certificate = check_nifti_slabs(path, _slabs(store, geometry), geometry)
    return replace(certificate, n_different=certificate.n_different + different)


def _slabs(store: LabelStore, geometry: Geometry) -> Iterator[Array]:
    """Yields slabs of a label map along z, each of whole chunks."""
    x, y, z = geometry.shape
    chunk = int(store.array.chunks[0])
    thickness = max(1, SLAB_VOXELS // (x * y) // chunk) * chunk
    for start in range(0, z, thickness):
        box: Box = (slice(0, x), slice(0, y), slice(start, min(start + thickness, z)))
        slab = store.read(box)
        yield from (slab[:, :, i : i + 8] for i in range(0, slab.shape[2], 8))
