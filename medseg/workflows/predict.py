"""predict: every case of a source, one after the other; see ``predict_case`` for what happens to each."""

from collections.abc import Sequence
from pathlib import Path

from medseg.dataset.cases import Case, Problem
from medseg.dataset.channel_order import in_order_of, placed, tell_channels
from medseg.dataset.image_warnings import copies_among
from medseg.dataset.layouts import find_cases
from medseg.dataset.spacing import with_spacing
from medseg.device import choose_device
from medseg.errors import ConfigError, OutputError, SourceError
from medseg.evaluation.calibration import PROBABILITIES
from medseg.files import ensure_folder
from medseg.inferers.backends import with_backend
from medseg.inferers.memory_plan import MemoryLimit, bytes_of
from medseg.inferers.model import ModelRecord, load_model, without_postprocessing
from medseg.io.mask_formats import Format, ending_of, format_named, format_of
from medseg.parallel import run_in_stages
from medseg.postprocessing.choosing import LEAST_CASES
from medseg.progress import counted, say, track, warn
from medseg.workflows.predict_case import UNCERTAINTY, CasePredictor, SegmentedCase
from medseg.workflows.prediction import Prediction, PredictResult
from medseg.workflows.predictions_file import PredictionsFile


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
    spacing: Sequence[float] | None = None,
    formats: Sequence[str] = (),
    max_memory: str | None = None,
    backend: str = "auto",
    save_probabilities: bool = False,
    uncertainty: bool = False,
    postprocessing: bool = True,
    overwrite: bool = False,
    head: int | None = None,
) -> PredictResult:
    """Segments every case of ``source`` (files, folders, any layout, DICOM studies; label maps are ignored).

    ``model`` is a RUN or a model folder, or several, whose logits are averaged. With ``output`` the masks are
    written there, each case in each of ``formats`` (the names in ``medseg.io.mask_formats``; if none, NIfTI, and
    PNG or TIFF for 2D images), with predictions.json; an ``output`` that ends as a mask does (``.nii.gz``,
    ``.seg.nrrd``, ``.dcm``) is that of a single case; without, they are kept in memory. Every mask is read back by
    another reader and compared; one that does not lie right is kept aside as NAME.rejected, and is a problem.
    ``mirror`` averages over mirrored images; None takes the model's own setting, as for ``overlap``, ``skip_air``
    and ``first_look``.

    ``skip_air``: in CT, windows that hold nothing but air get what the network says of even air, which it is asked
    once. ``first_look``, for large scans: the network first sees the image at half the resolution, and then only what
    lies around what it found there, as it is; what it missed is background.

    ``images`` are globs as in ``preprocess``; channels that they name as in training are put in that order.
    ``registered``: channels on different grids show one place, and are resampled to the grid of the first; so are
    those that DICOM says so of, and all where the model was trained like that.

    ``spacing`` is that of the voxels in mm, in array-axis order, where headers lost it; masks keep these headers.

    ``max_memory``, such as "4GB", is what a case may take (of the GPU's memory on CUDA): windows and slabs are chosen
    to stay below it, and cases that cannot are refused before they begin.

    ``backend`` runs the network: "torch", "compile", "openvino", "int8" (what ``quantise`` made), "onnxruntime", or
    "auto" (OpenVINO where it is installed, the network slow, and OpenVINO faster; in int8 where there is that). One
    that disagrees with torch is dropped with a warning.

    ``save_probabilities`` writes the probability of each label and region, ``uncertainty`` the entropy of all (0 to 1),
    as NIfTI in folders of these names beside the masks.

    ``postprocessing`` False leaves out the model's rules (holes filled, components removed); what they change stands in
    the warnings of a case.

    ``head`` prunes a U-Net++: 1 answers with the first of its heads, and computes only what that needs.

    Cases that are in the output already, by the same model with the same settings of an image that hasn't changed
    since, are left as they are, so that a call that was killed can be repeated; ``overwrite`` predicts them again.

    Cases that fail, and masks that could not be written in one of the formats, stand in ``problems``; the others are
    done. Raises ``MedsegError`` when the model or the source cannot be used at all.
    """
    file = _file(output)
    wanted = _formats(formats, output, file)
    most = None if max_memory is None else bytes_of(max_memory)
    models = [model] if isinstance(model, str | Path) else model
    loaded = with_backend(load_model([Path(each) for each in models], choose_device(device), head), backend)
    loaded = loaded if postprocessing else without_postprocessing(loaded)
    changes = {"mirror": mirror, "overlap": overlap, "skip_air": skip_air, "first_look": first_look}
    config = loaded.record.inference.model_copy(update={k: v for k, v in changes.items() if v is not None})
    found = find_cases(Path(source), images=images, labelled=False, incomplete=loaded.record.channel_dropout)
    found = with_spacing(found, spacing)
    say(f"Found in {source}: {found.layout}; {counted(len(found.cases), 'case')}")
    for note in found.notes:
        say(f"  {note}")
    for doubt in found.doubts:
        warn(doubt)
    in_order = placed if loaded.record.channel_dropout else in_order_of
    found = in_order(loaded.record.channels, found)
    tell_channels(found.channels, loaded.record.channels)
    if config.mirror and not loaded.record.plan.mirrored_axes:
        warn("The model was not trained on mirrored images, so nothing is averaged over them (augmentation.mirror)")
    by = "" if loaded.backend == "torch" else f", by {loaded.backend}"
    together = f", an ensemble of {len(loaded.members)}" if loaded.members else ""
    say(f"Predicting on {loaded.device} with {loaded.folder}{together}{by}")
    _tell_rules(loaded.record)
    folder = None if output is None or file is not None else ensure_folder(Path(output))
    _refuse_to_overwrite(found.cases, folder, file)
    extras = [name for name, asked in ((PROBABILITIES, save_probabilities), (UNCERTAINTY, uncertainty)) if asked]
    if extras and folder is None:
        raise ConfigError(f"{' and '.join(extras)} are written only where 'output' names a folder")
    limit = None if most is None else MemoryLimit.measured(loaded, config, most)
    copies = {case.case_id: doubt.what for doubt, case in copies_among(found.cases)}
    predictor = CasePredictor(loaded, folder, config, tuple(wanted), registered, limit, tuple(extras), copies, file)
    result = predict_cases(predictor, found.cases, found.problems, overwrite)
    if not result.predictions and not result.done_before:
        first = [*result.problems[len(found.problems) :], *found.problems][:1]
        raise SourceError(f"{source}: no case could be predicted{f'; {first[0]}' if first else ''}")
    return result


def _tell_rules(record: ModelRecord) -> None:
    """Those that an older version chose on few cases: they may remove what is right."""
    for rule in record.postprocessing:
        n = rule.chosen_on or record.validated_cases(rule.label)
        if n is None or n < LEAST_CASES:
            warn(
                f"The model postprocesses {rule}; an older version chose that on {n or 'an unknown number of'} cases, "
                f"where {LEAST_CASES} are needed, and it may remove what is right; --no-postprocessing leaves it out"
            )


def _file(output: str | Path | None) -> Path | None:
    """The output where it is one mask, not a folder of them."""
    path = None if output is None else Path(output)
    return path if path is not None and ending_of(path) and not path.is_dir() else None


def _formats(names: Sequence[str], output: str | Path | None, file: Path | None) -> list[Format]:
    if names and output is None:
        raise ConfigError(f"formats {', '.join(names)}: masks are written only where 'output' names a folder or a file")
    if file is None:
        return [format_named(name) for name in dict.fromkeys(names)]
    if len(set(names)) > 1:
        raise OutputError(f"{file} is one file, and {', '.join(names)} are several; give a folder with -o")
    return [format_of(file, names[0] if names else None)]


def _refuse_to_overwrite(cases: Sequence[Case], folder: Path | None, file: Path | None) -> None:
    if file is not None and len(cases) > 1:
        some = ", ".join(case.case_id for case in cases[:3])
        raise OutputError(
            f"{file} is one file, and there are {len(cases)} cases ({some}, …); give a folder with -o, or name one case"
        )
    for source in (source for case in cases for source in case.images if source.kind != "dicom"):
        if folder is not None and source.path.parent.resolve() == folder.resolve():
            raise OutputError(
                f"{folder} holds images that are read, such as {source.path.name}, and masks of these names would "
                "overwrite them; choose another -o"
            )
        if file is not None and source.path.resolve() == file.resolve():
            raise OutputError(f"{file} is the image that is read, and would be overwritten; choose another -o")


def predict_cases(
    predictor: CasePredictor, cases: Sequence[Case], problems: Sequence[Problem] = (), overwrite: bool = True
) -> PredictResult:
    """Predicts cases in their order; what fails becomes a problem. While the network sees a case, the next one is read
    and the masks of the one before are written; with a limit, which speaks of one case, nothing overlaps.
    predictions.json is written now and then, and at the end."""
    predictions: list[Prediction] = []
    failed = list(problems)
    for problem in failed:
        warn(str(problem))
    record = PredictionsFile.of(predictor.model, predictor.config, predictor.registered, predictor.folder)
    record.asked = [case.case_id for case in cases]
    done = [] if overwrite else record.done_before(cases, predictor.formats, predictor.extras)
    if done:
        say(f"{counted(len(done), 'case')} done before; --overwrite predicts them again")
    to_do = [case for case in cases if case.case_id not in done]

    def write(segmented_case: SegmentedCase) -> Prediction:
        prediction = predictor.write(segmented_case)
        predictions.append(prediction)
        if record.is_due:  # here, since the network may take long for the next case
            record.write([each.as_json() for each in predictions], list(failed))
        return prediction

    overlapping = predictor.memory_limit is None
    outcomes = run_in_stages(predictor.read, predictor.segment, write, to_do, overlapping=overlapping)
    for outcome in track(outcomes, "Predicting", len(to_do)):
        case, prediction = outcome.item, outcome.result
        for error in [outcome.error or "failed"] if prediction is None else prediction.not_written:
            failed.append(Problem(case.case_id, case.images[0].path, error, outcome.is_defect))
            warn(str(failed[-1]))
    content = record.write([each.as_json() for each in predictions], failed)
    output = predictor.file or predictor.folder
    return PredictResult(tuple(predictions), tuple(failed), predictor.model.record.labels, output, content, tuple(done))
