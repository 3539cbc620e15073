"""predict: every case of a source, one after the other; see ``medseg.prediction`` for what happens to each."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from medseg.dataset.channel_order import channels_as_trained
from medseg.dataset.image_warnings import copies_among
from medseg.dataset.layouts import find_cases
from medseg.dataset.spacing import with_spacing
from medseg.device import Precision
from medseg.errors import ConfigError, SourceError
from medseg.inferers.memory_plan import bytes_of
from medseg.plugins import loaded_plugins
from medseg.prediction.case_on_worker import RemotePredictor
from medseg.prediction.case_predictor import asked_maps, asked_reports, tell_model
from medseg.prediction.cohort import predict_cases
from medseg.prediction.output import PredictionOutput
from medseg.prediction.request import PredictionRequest
from medseg.prediction.result import PredictResult
from medseg.remote_workers import RemoteWorkers
from medseg.workflows.fetch import fetched_if_remote


def predict(
    model: str | Path | Sequence[str | Path],
    source: str | Path,
    output: str | Path | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    mirror: bool | None = None,
    overlap: float | None = None,
    skip_air: bool | None = None,
    first_look: bool | None = None,
    resampling: Literal["plan", "medseg"] | None = None,
    images: str | Sequence[str] | None = None,
    registered: bool = False,
    spacing: Sequence[float] | None = None,
    formats: Sequence[str] = (),
    max_memory: str | None = None,
    backend: str = "auto",
    save_probabilities: bool = False,
    uncertainty: bool = False,
    statistics: bool = False,
    radiomics: bool = False,
    preview: bool = False,
    postprocessing: bool = True,
    overwrite: bool = False,
    head: int | None = None,
    network: torch.nn.Module | None = None,
    labels: Sequence[str] | None = None,
    fast: bool = False,
    blocks: bool | None = None,
    executor: Executor | None = None,
) -> PredictResult:
    """Segments every case of a source.

    Cases that fail, and masks that could not be written in one of the formats, stand in ``problems``; the others are
    done. Every mask is read back by another reader and compared. One that does not lie right is kept aside as
    NAME.rejected, and is a problem. Cases that are in the output already, by the same model with the same settings of
    an image that hasn't changed since, are left as they are, so that a call that was killed can be repeated.

    Args:
        model: A RUN or a model folder, one of several members too; or several, whose logits are averaged where they
            have one plan, else their probabilities.
        source: Files, folders, any layout, DICOM studies; label maps are ignored. An address as ``fetch`` has it is
            fetched into ``output/fetched`` first.
        output: A folder for masks and predictions.json. One that ends as a mask does (``.nii.gz``, ``.seg.nrrd``,
            ``.dcm``) is the file of a single case. None keeps label maps in memory.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: In which networks compute: "auto" takes what is fast on the device, "fp32" gives the results of the
            program that a model comes from to the last digits (by torch, where ``backend`` is "auto"), "bf16" and
            "fp16" (CUDA) are what they say.
        mirror: Average over mirrored images. None takes the model's own setting, as in the next four.
        overlap: Of neighbouring windows, as a fraction of the patch.
        skip_air: In CT, windows of nothing but air get what the network says of even air, which it is asked once.
        first_look: For large scans: the network first sees the image at half the resolution, and then only what lies
            around what it found there, as it is; what it missed is background.
        resampling: "medseg" resamples cases of imported models, and their logits, by medseg's own rule, which goes
            smoothly from slice to slice, in place of that of where they were trained ("plan"); masks differ slightly.
        images: Globs as in ``preprocess``; channels that they name as in training are put in that order.
        registered: Channels on different grids show one place, and are resampled to the grid of the first. So are
            those that DICOM says so of, and all where the model was trained like that.
        spacing: Of the voxels, in mm, in array-axis order, where headers lost it; masks keep these headers.
        formats: Names in ``medseg.io.mask_formats``; if none, NIfTI, and PNG or TIFF for 2D images.
        max_memory: What a case may take, as "4GB" (of the GPU's memory on CUDA). Windows and slabs are chosen to stay
            below it, windows no larger than the patch; cases that cannot are refused before they begin.
        backend: What runs the network: "torch", "compile", "openvino", "int8" (what ``quantise`` made), "onnxruntime",
            or "auto": OpenVINO where it is installed, the network slow, and OpenVINO faster; in int8 where there is
            that. One that disagrees with torch is dropped with a warning.
        save_probabilities: Write the probability of each label and region as NIfTI, in a folder beside the masks.
        uncertainty: Write the entropy of the probabilities (0 to 1) as NIfTI, in a folder beside the masks.
        statistics: Write what is measured of each label and region: ``statistics.csv``, and a folder of JSON files.
        radiomics: Write the same of radiomics features, by MIRP: ``radiomics.csv``, and a folder of tables.
        preview: Write a picture of each case, its labels over the image, in a folder beside the masks.
        postprocessing: False leaves out the model's rules; what they change stands in the warnings of a case.
        overwrite: Predict again what is in the output already.
        head: Prunes a U-Net++: 1 answers with the first of its heads, and computes only what that needs.
        network: The module of a model that was trained with one of the user's own, built as for training; a copy of it
            gets the weights of the model. Windows (window, channel, *spatial) to logits (window, label, *spatial).
        labels: Names of the labels that are written; members that give none of them do not work. None: all.
        fast: Of several members only the one works that is faster and less fine, as TotalSegmentator's of 3 mm.
        blocks: Predict OME-Zarr and NIfTI block by block, each block a task of the ``executor``. None: cases for which
            ``max_memory``, or without it the memory of this machine, is too little.
        executor: Predicts the cases, in place of this process: see ``medseg.open_cluster``. Its workers load the model
            once, and write masks by themselves; ``device``, ``backend`` and ``max_memory`` are those of a worker.

    Returns:
        One prediction a case, and the problems.

    Raises:
        MedsegError: The model or the source cannot be used at all.
    """
    if network is not None and executor is not None:
        raise ConfigError("network: workers build networks by their names; register yours in a plugin (--plugin)")
    place, source = PredictionOutput.of(output, formats), fetched_if_remote(source, output)
    extras, reports = asked_maps(save_probabilities, uncertainty), asked_reports(statistics, radiomics, preview)
    request = PredictionRequest(
        models=tuple(Path(each) for each in ([model] if isinstance(model, str | Path) else model)),
        device=device, precision=precision, postprocessing=postprocessing, head=head, fast=fast,
        backend="torch" if precision == "fp32" and backend == "auto" else backend, registered=registered, blocks=blocks,
        settings=(("mirror", mirror), ("overlap", overlap), ("skip_air", skip_air), ("first_look", first_look),
                  ("resampling", resampling)),
        labels=None if labels is None else tuple(labels), extras=extras, reports=reports,
        max_memory=None if max_memory is None else bytes_of(max_memory), folder=place.folder, file=place.file,
        formats=tuple(format_.name for format_ in place.formats), plugins=tuple(loaded_plugins()),
    )  # fmt: skip
    # Workers have the device and the backend; here is asked only what the model knows.
    predictor = (request if executor is None else replace(request, device="cpu", backend="torch")).predictor(network)
    record = predictor.model.record
    found = find_cases(Path(source), images=images, labelled=False, incomplete=record.channel_dropout)
    found = with_spacing(found, spacing)
    found.tell(source)
    found = channels_as_trained(record.channels, found, record.channel_dropout)
    place.prepare(found.cases, (*extras, *reports))
    copies = {case.case_id: doubt.what for doubt, case in copies_among(found.cases)}
    sees = (Path(source), *found.first_files, *request.models)
    remote = RemotePredictor(RemoteWorkers(executor, sees, place.shared), request, copies) if executor else None
    if remote is None:
        tell_model(predictor.model, predictor.config)
    result = predict_cases(replace(predictor, copies=copies), found.cases, found.problems, overwrite, remote)
    if not result.predictions and not result.done_before:
        first = [*result.problems[len(found.problems) :], *found.problems][:1]
        raise SourceError(f"{source}: no case could be predicted{f'; {first[0]}' if first else ''}")
    return result
