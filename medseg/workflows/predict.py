"""predict: read, prepare, slide windows, restore to the source grid, write."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case, CaseList, Problem
from medseg.dataset.layouts import find_cases
from medseg.dataset.reading import read_images
from medseg.decoding import decoding_of
from medseg.device import choose_device
from medseg.errors import ConfigError, MedsegError, OutputError, SourceError
from medseg.evaluation.calibration import PROBABILITIES, map_path
from medseg.files import ensure_folder
from medseg.inference.backends import with_backend
from medseg.inference.confidence import Confidence
from medseg.inference.model import Model, ModelRecord, load_model
from medseg.inference.room import Cap, Chosen, bytes_of, in_units
from medseg.inference.segmentation import Segmentation, segment
from medseg.inference.uncertainty import Maps
from medseg.io.masks.formats import Format, Written, format_named, usual_format, write_mask
from medseg.io.masks.segmented import Segmented
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.parallel import run_in_stages
from medseg.postprocessing.components import postprocess
from medseg.preprocessing.pipeline import Prepared, prepare
from medseg.progress import counted, say, track, warn
from medseg.volume import Array, Geometry, Volume
from medseg.workflows.predictions_file import PredictionsFile, Stamp, stamps

UNCERTAINTY = "uncertainty"

# DICOM's modalities, and what people call these in the names of channels.
MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one case."""

    case_id: str
    source: Path
    stages: dict[str, float]  # seconds of work on it, not of waiting: read, network, restore, write
    peak_memory_mb: float  # while it was under way, of the cases before and after it too
    voxels: dict[str, int]  # by name of label or region
    volumes_ml: dict[str, float]  # the same; empty for pictures, whose pixels have no size
    warnings: tuple[str, ...]
    windows: int = 0
    skipped_windows: int = 0  # of them: those that were answered without asking the network
    masks: tuple[Written, ...] = ()  # one for each format that it was written in
    not_written: tuple[str, ...] = ()  # why it was not in the others
    expected_dice: dict[str, float] = field(default_factory=dict)  # with its probabilities, of what has a mask
    estimated_dice: dict[str, float] = field(default_factory=dict)  # with a reference, by what held-back cases had
    review: bool | None = None  # whether a person should look at it; None where the model has no rules for that
    review_reasons: tuple[str, ...] = ()
    forecast_mb: float | None = None  # of the peak, where memory was to be saved
    extras: tuple[str, ...] = ()  # what was written beside the masks
    images: tuple[Stamp, ...] = ()
    kept: Volume | None = None  # the label map, where nothing was to be written

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())

    @property
    def path(self) -> Path | None:
        """Of the mask in the first format."""
        return self.masks[0].path if self.masks else None

    @property
    def label_map(self) -> Volume:
        """The label map in the values of the labels, one channel, on the grid of the source.

        Raises ``OutputError`` when it was written, but in no format that holds a label map.
        """
        if self.kept is not None:
            return self.kept
        for mask in self.masks:
            if mask.format.is_label_map:
                return read_volume(mask.path)
        raise OutputError(f"{self.case_id}: was written in formats that hold no label map; predict with nifti too")

    def as_json(self) -> dict[str, Any]:
        return {
            "case_id": self.case_id,
            "source": str(self.source.resolve()),
            "masks": {mask.format.name: mask.path.name for mask in self.masks},
            "certificates": {mask.format.name: mask.certificate.as_json() for mask in self.masks},
            "seconds": round(self.seconds, 3),
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.items()},
            "peak_memory_mb": round(self.peak_memory_mb, 1),
            **({} if self.forecast_mb is None else {"forecast_mb": round(self.forecast_mb, 1)}),
            "voxels": self.voxels,
            "volumes_ml": {name: round(ml, 4) for name, ml in self.volumes_ml.items()},
            "windows": self.windows,
            "skipped_windows": self.skipped_windows,
            "expected_dice": {name: round(dice, 6) for name, dice in self.expected_dice.items()},
            "estimated_dice": {name: round(dice, 4) for name, dice in self.estimated_dice.items()},
            "review": self.review,
            "review_reasons": list(self.review_reasons),
            "warnings": list(self.warnings),
            "extras": list(self.extras),
            "images": [list(stamp) for stamp in self.images],
        }


@dataclass(frozen=True)
class PredictResult:
    """All predictions, and the cases that could not be predicted."""

    predictions: tuple[Prediction, ...]
    problems: tuple[Problem, ...]
    labels: Labels
    output: Path | None
    done_before: tuple[str, ...] = ()  # case ids of what an earlier call predicted

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.predictions)


def predict(
    model: str | Path | Sequence[str | Path],
    source: str | Path,
    output: str | Path | None = None,
    *,
    device: str = "auto",
    mirror: bool | None = None,
    overlap: float | None = None,
    skip_air: bool | None = None,
    first_look: bool | None = None,
    images: str | Sequence[str] | None = None,
    registered: bool = False,
    formats: Sequence[str] = (),
    max_memory: str | None = None,
    backend: str = "auto",
    save_probabilities: bool = False,
    uncertainty: bool = False,
    overwrite: bool = False,
    head: int | None = None,
) -> PredictResult:
    """Segments every case of ``source`` (files, folders, any layout, DICOM studies; label maps are ignored).

    ``model`` is a RUN or a model folder, or several, whose logits are averaged. With ``output`` the masks are written
    there, each case in each of ``formats`` (the names in ``medseg.io.masks.formats``; if none, NIfTI, and PNG or TIFF
    for 2D images), with predictions.json; without, they are kept in memory. Every mask is read back by another reader
    and compared; one that does not lie right is deleted. ``mirror`` averages over mirrored images; None takes the
    model's own setting, as for ``overlap``, ``skip_air`` and ``first_look``.

    ``skip_air``: in CT, windows that hold nothing but air get what the network says of even air, which it is asked
    once. ``first_look``, for large scans: the network first sees the image at half the resolution, and then only what
    lies around what it found there, as it is; what it missed is background.

    ``images`` are globs as in ``preprocess``; channels that they name as in training are put in that order.
    ``registered``: channels on different grids show one place, and are resampled to the grid of the first; so are
    those that DICOM says so of, and all where the model was trained like that.

    ``max_memory``, such as "4GB", is what a case may take (of the GPU's memory on CUDA): windows and slabs are chosen
    to stay below it, and cases that cannot are refused before they begin.

    ``backend`` runs the network: "torch", "compile", "openvino", "onnxruntime", or "auto" (OpenVINO where it is
    installed, the network slow, and OpenVINO faster). One that disagrees with torch is dropped with a warning.

    ``save_probabilities`` writes the probability of each label and region, ``uncertainty`` the entropy of all (0 to 1),
    as NIfTI in folders of these names beside the masks.

    ``head`` prunes a U-Net++: 1 answers with the first of its heads, and computes only what that needs.

    Cases that are in the output already, by the same model with the same settings of an image that hasn't changed
    since, are left as they are, so that a call that was killed can be repeated; ``overwrite`` predicts them again.

    Cases that fail, and masks that could not be written in one of the formats, stand in ``problems``; the others are
    done. Raises ``MedsegError`` when the model or the source cannot be used at all.
    """
    wanted = _formats(formats, output)
    most = None if max_memory is None else bytes_of(max_memory)
    models = [model] if isinstance(model, str | Path) else model
    loaded = with_backend(load_model([Path(each) for each in models], choose_device(device), head), backend)
    changes = {"mirror": mirror, "overlap": overlap, "skip_air": skip_air, "first_look": first_look}
    config = loaded.record.inference.model_copy(update={k: v for k, v in changes.items() if v is not None})
    found = find_cases(Path(source), images=images, labelled=False, incomplete=loaded.record.channel_dropout)
    say(f"Found in {source}: {found.layout}; {counted(len(found.cases), 'case')}")
    for note in found.notes:
        say(f"  {note}")
    in_order = _placed if loaded.record.channel_dropout else _in_order_of
    found = in_order(loaded.record.channels, found)
    _tell_channels(found.channels, loaded.record.channels)
    by = "" if loaded.backend == "torch" else f", by {loaded.backend}"
    together = f", an ensemble of {len(loaded.members)}" if loaded.members else ""
    say(f"Predicting on {loaded.device} with {loaded.folder}{together}{by}")
    folder = None if output is None else ensure_folder(Path(output))
    if folder is not None:
        _refuse_to_overwrite(found.cases, folder)
    extras = [name for name, asked in ((PROBABILITIES, save_probabilities), (UNCERTAINTY, uncertainty)) if asked]
    if extras and output is None:
        raise ConfigError(f"{' and '.join(extras)} are written only where 'output' names a folder")
    result = predict_cases(
        loaded, found.cases, folder, config, found.problems, wanted, registered, most, extras, overwrite
    )
    if not result.predictions and not result.done_before:
        first = [*result.problems[len(found.problems) :], *found.problems][:1]
        raise SourceError(f"{source}: no case could be predicted{f'; {first[0]}' if first else ''}")
    return result


def _formats(names: Sequence[str], output: str | Path | None) -> list[Format]:
    if names and output is None:
        raise ConfigError(f"formats {', '.join(names)}: masks are written only where 'output' names a folder")
    return [format_named(name) for name in dict.fromkeys(names)]


def _in_order_of(trained: Sequence[str], found: CaseList) -> CaseList:
    """Channels that have the names of training in the order of training."""
    if sorted(found.channels) != sorted(trained) or any(len(case.images) != len(trained) for case in found.cases):
        return found
    order = [found.channels.index(name) for name in trained]
    cases = tuple(replace(case, images=tuple(case.images[i] for i in order)) for case in found.cases)
    return replace(found, cases=cases, channels=tuple(trained))


def _placed(trained: Sequence[str], found: CaseList) -> CaseList:
    """Cases that may lack channels, in the order of training where their names, or the numbers that nnU-Net gives them,
    say which they have."""
    placed = [_placed_case(trained, case) for case in found.cases]
    cases = tuple(new or case for new, case in zip(placed, found.cases, strict=True))
    return replace(found, cases=cases, channels=tuple(trained) if all(placed) else found.channels)


def _placed_case(trained: Sequence[str], case: Case) -> Case | None:
    """None where the names of its channels say nothing."""
    places = [
        trained.index(name) if name in trained else int(name) if name.isdigit() else len(trained)
        for name in case.channels
    ]
    if len(set(places)) < len(case.images) or max(places, default=0) >= len(trained):
        return None
    images = tuple(case.images[places.index(place)] for place in sorted(places))
    return replace(case, images=images, missing=tuple(sorted(set(range(len(trained))) - set(places))))


def _tell_channels(found: Sequence[str], trained: Sequence[str]) -> None:
    """Channels are taken by their order: where names differ, that order may be another one."""
    if len(found) == len(trained) > 1 and tuple(found) != tuple(trained):
        pairs = ", ".join(f"{name} as {meant}" for name, meant in zip(found, trained, strict=True))
        # Numbers, as in nnU-Net's names, are an order; other names say what is in the files.
        tell = say if all(name.isdigit() for name in found) else warn
        tell(f"Channels are named otherwise than in training, and taken in this order: {pairs}")


def _refuse_to_overwrite(cases: Sequence[Case], folder: Path) -> None:
    for case in cases:
        for source in case.images:
            if source.kind != "dicom" and source.path.parent.resolve() == folder.resolve():
                raise OutputError(
                    f"{folder} holds images that are read, such as {source.path.name}, and masks of these names would "
                    "overwrite them; choose another -o"
                )


def predict_cases(
    model: Model,
    cases: Sequence[Case],
    folder: Path | None,
    config: InferenceConfig,
    problems: Sequence[Problem] = (),
    formats: Sequence[Format] = (),
    registered: bool = False,
    max_memory: int | None = None,
    extras: Sequence[str] = (),
    overwrite: bool = True,
) -> PredictResult:
    """Predicts cases in their order; what fails becomes a problem. While the network sees a case, the next one is read
    and the masks of the one before are written; with ``max_memory``, which speaks of one case, nothing overlaps.
    predictions.json is written now and then, and at the end."""
    predictions: list[Prediction] = []
    failed = list(problems)
    for problem in failed:
        warn(str(problem))
    record = PredictionsFile.of(model, config, registered, folder)
    done = [] if overwrite else record.done_before(cases, formats, extras)
    if done:
        say(f"{counted(len(done), 'case')} done before; --overwrite predicts them again")
    cap = None if max_memory is None else Cap.measured(model, config, max_memory)
    to_do = [case for case in cases if case.case_id not in done]

    def write(answer: Answer) -> Prediction:
        prediction = write_case(model, answer, folder, formats, extras)
        predictions.append(prediction)
        if record.is_due:  # here, since the network may take long for the next case
            record.write([each.as_json() for each in predictions], list(failed))
        return prediction

    outcomes = run_in_stages(
        lambda case: read_case(model, case, folder, config, formats, registered, cap),
        lambda ready: segment_case(model, ready, config, extras),
        write,
        to_do,
        overlapping=cap is None,
    )
    for outcome in track(outcomes, "Predicting", len(to_do)):
        case, prediction = outcome.item, outcome.result
        for error in [outcome.error or "failed"] if prediction is None else prediction.not_written:
            failed.append(Problem(case.case_id, case.images[0].path, error))
            warn(str(failed[-1]))
    record.write([each.as_json() for each in predictions], failed)
    return PredictResult(tuple(predictions), tuple(failed), model.record.labels, folder, tuple(done))


def predict_case(
    model: Model,
    case: Case,
    folder: Path | None,
    config: InferenceConfig,
    formats: Sequence[Format] = (),
    registered: bool = False,
    cap: Cap | None = None,
    extras: Sequence[str] = (),
) -> Prediction:
    """Predicts one case; writes its mask, and the ``extras``, into ``folder``, or keeps it where that is None."""
    ready = read_case(model, case, folder, config, formats, registered, cap)
    return write_case(model, segment_case(model, ready, config, extras), folder, formats, extras)


@dataclass(frozen=True)
class Ready:
    """A case that the network can see."""

    case: Case
    prepared: Prepared
    chosen: Chosen | None  # where memory is to be saved
    stages: dict[str, float]  # seconds of work so far


@dataclass(frozen=True)
class Answer:
    """What the network says of a case, postprocessed."""

    case: Case
    segmentation: Segmentation
    geometry: Geometry
    maps: dict[str, Maps]
    expected_dice: dict[str, float]
    forecast_mb: float | None
    peak_memory_mb: float
    stages: dict[str, float]


def read_case(
    model: Model,
    case: Case,
    folder: Path | None,
    config: InferenceConfig,
    formats: Sequence[Format] = (),
    registered: bool = False,
    cap: Cap | None = None,
) -> Ready:
    """Reads and prepares the images, once it is clear that masks can be written and that there is room."""
    start = time.perf_counter()
    model.device.forget_peak()
    record = model.record
    refusals = [format_.refusal(case.images[0]) for format_ in _formats_of(case, formats)]
    if folder is not None and all(refusals):  # before anything is computed
        raise OutputError("; ".join(refusals))
    grid = record.plan.grid
    image = _with_missing(read_images(case, grid.tolerance, registered or grid.registered), case.missing)
    if len(image.array) != len(record.channels):
        raise SourceError(
            f"{case.images[0].path}: number of channels is {len(image.array)}, the model was trained on "
            f"{len(record.channels)} ({', '.join(record.channels)}); {_how_to_give(record.channels)}"
        )
    chosen = None if cap is None else cap.room(model, image, config)
    if chosen is not None:
        say(f"{case.case_id}: takes up to {in_units(chosen.forecast)} of memory")
    prepared = prepare(image, None, record.plan.grid, len(record.labels.items))
    prepared.image[list(case.missing)] = 0  # whatever the normalisation makes of zeros
    return Ready(case, prepared, chosen, {"read": time.perf_counter() - start})


def segment_case(model: Model, ready: Ready, config: InferenceConfig, extras: Sequence[str] = ()) -> Answer:
    """Lets the network see a case, and postprocesses what it says."""
    start = time.perf_counter()
    record, prepared, chosen = model.record, ready.prepared, ready.chosen
    geometry = prepared.source
    axes = record.plan.mirrored_axes if config.mirror else ()
    room = None if chosen is None else chosen.room
    maps = {name: _maps(name, record, geometry) for name in extras}
    observers = list(maps.values())
    confidence = Confidence(record.labels, decoding_of(record.plan), prepared.geometry.shape)
    segmentation = segment(
        model.network, prepared, record.plan, config, model.device, axes, room, observers, confidence
    )
    postprocess(segmentation.label_map, record.postprocessing, record.labels.names, geometry.voxel_volume_ml)
    network = segmentation.network_seconds
    return Answer(
        case=ready.case,
        segmentation=segmentation,
        geometry=geometry,
        maps=maps,
        expected_dice=confidence.expected_dice,
        forecast_mb=None if chosen is None else chosen.forecast / 2**20,
        peak_memory_mb=model.device.peak_memory_mb(),
        stages={**ready.stages, "network": network, "restore": time.perf_counter() - start - network},
    )


def write_case(
    model: Model, answer: Answer, folder: Path | None, formats: Sequence[Format] = (), extras: Sequence[str] = ()
) -> Prediction:
    """Writes the masks and certifies them, or keeps the label map where ``folder`` is None."""
    start = time.perf_counter()
    record, case, geometry = model.record, answer.case, answer.geometry
    label_map = Volume(record.labels.decode(answer.segmentation.label_map)[None], geometry)
    voxels = _voxels(answer.segmentation.label_map, record.labels)
    volumes_ml = {name: n * geometry.voxel_volume_ml for name, n in voxels.items()}
    reasons = () if record.review is None else record.review.reasons(answer.expected_dice, volumes_ml)
    segmented = Segmented(label_map.label_map, label_map.geometry, record.labels, case.images[0], model.name)
    masks: tuple[Written, ...] = ()
    not_written: tuple[str, ...] = ()
    if folder is not None:
        _write_maps(folder, case.case_id, answer.maps)  # before the masks: where these are, all is
        masks, not_written = _write(folder, case.case_id, segmented, _formats_of(case, formats))
    return Prediction(
        case_id=case.case_id,
        source=case.images[0].path,
        stages={**answer.stages, "write": time.perf_counter() - start},
        peak_memory_mb=max(answer.peak_memory_mb, model.device.peak_memory_mb()),
        forecast_mb=answer.forecast_mb,
        voxels=voxels,
        volumes_ml={} if case.images[0].kind == "image2d" else volumes_ml,
        expected_dice=answer.expected_dice,
        estimated_dice={} if record.review is None else record.review.estimates(answer.expected_dice),
        review=None if record.review is None else bool(reasons),
        review_reasons=tuple(reasons),
        warnings=(*answer.segmentation.warnings, *_warnings(case, record, voxels)),
        windows=answer.segmentation.windows,
        skipped_windows=answer.segmentation.skipped_windows,
        masks=masks,
        not_written=not_written,
        extras=tuple(extras),
        images=stamps(case),
        kept=label_map if folder is None else None,
    )


def _formats_of(case: Case, asked: Sequence[Format]) -> Sequence[Format]:
    return asked or [usual_format(case.images[0])]


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
            maps.write(partial(map_path, folder / PROBABILITIES / case_id))


def _how_to_give(channels: Sequence[str]) -> str:
    if len(channels) == 1:
        return "choose one with --images"
    globs = " ".join(f"--images '{channel}=GLOB'" for channel in channels)
    return (
        f"give all images of a case: {globs}; a model that is trained with augmentation.channel_dropout_probability "
        "does without some"
    )


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


def _write(
    folder: Path, case_id: str, segmented: Segmented, formats: Sequence[Format]
) -> tuple[tuple[Written, ...], tuple[str, ...]]:
    """What was written, and why the rest was not. Raises ``OutputError`` when nothing was."""
    written, errors = [], []
    for format_ in formats:
        try:
            written.append(write_mask(format_, format_.path(folder, case_id), segmented))
        except MedsegError as error:
            errors.append(str(error))
    if not written:
        raise OutputError("; ".join(errors))
    return tuple(written), tuple(errors)
