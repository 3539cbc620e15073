"""A trained model of nnU-Net v2 as a model folder of medseg."""

import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from medseg.config import InferenceConfig
from medseg.dataset.dataset_json import channel_names, label_names
from medseg.errors import ModelError
from medseg.files import folder_written_whole
from medseg.inferers.model import save_model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.origin import Origin
from medseg.interop.nnunet.cross_validation import dice_of, postprocessing_of
from medseg.interop.nnunet.network import architecture_of, cleaned, norm_of, translated
from medseg.interop.nnunet.plan import AxisOrder, plan_of
from medseg.interop.nnunet.trained_folder import (
    DATASET,
    LONGEST,
    PLANS,
    CheckpointName,
    NnunetCheckpoint,
    TrainedFolder,
    read_checkpoint,
)
from medseg.labels import Labels
from medseg.plan import LearntRegion, Normalization
from medseg.progress import counted, say, warn
from medseg.records import explained
from medseg.version import VERSION
from medseg.weights import Tensors

PROGRAM = "nnU-Net"
MOST_TOLD = 8  # channels whose values are told
BOTH_STAGES = "give the folder of the dataset, in which the first stage lies too, and --configuration"

# The trainers that come with nnU-Net 2.8, and those of TotalSegmentator: they leave the network as it is planned, but
# for its norm, which the weights tell.
_TRAINER_PARTS = (
    r"\d+ep(?:och)?s?", "Benchmark", "noDataLoading", "NoMirroring", "onlyMirror01", "DA5", "(?:DA)?(?:Seg)?[oO]rd0",
    "NoDA", "noDummy2DDA", "CELoss", "DiceLoss", "DiceCELoss", "noSmooth", "Topk10Loss", "LS01", "DiceTopK10Loss",
    "CosAnneal", "warmup", "BN", "NoDeepSupervision", "(?:Vanilla)?Adam", "Adan", r"\den\d",
    "probabilisticOversampling", r"\d{3}", "SkeletonRecall",
)  # fmt: skip
KNOWN_TRAINER = re.compile(rf"nnUNetTrainer(?:_?(?:{'|'.join(_TRAINER_PARTS)}))*")


@dataclass(frozen=True)
class NnunetChoice:
    """What of a source is imported.

    Attributes:
        configuration: As "3d_fullres"; None where there is only one.
        folds: "0" to "4", or "all"; none: all that were cross-validated.
        checkpoint: "final", "best" or "latest".
        orientation: Where the axes of the training images pointed, such as "LPS"; None: images are taken as they are
            stored, as nnU-Net does.
        as_stage: Whether it may be the second stage of a cascade, which needs the first one.
    """

    configuration: str | None = None
    folds: tuple[str, ...] = ()
    checkpoint: CheckpointName = "final"
    orientation: str | None = None
    as_stage: bool = False


class Fold(NamedTuple):
    """The model of one fold."""

    name: str
    record: ModelRecord
    weights: Tensors


def import_nnunet(source: Path, output: Path, choice: NnunetChoice = NnunetChoice()) -> ModelRecord:
    """Writes a trained model of nnU-Net v2 as a model folder, of several folds as an ensemble. No code of it is run.

    Args:
        source: A trained folder, one of its dataset, or a zip of these.
        output: The folder, which appears whole or not at all.
        choice: What of the source is imported.

    Returns:
        The record of the model, or of the first one of the ensemble.

    Raises:
        ModelError: The model is damaged, or none that medseg can build; the error names what is in the way.
        SourceError: The zip is damaged, or holds what leads out of it.
        OutputError: ``output`` cannot be written, or is there already.
    """
    trained = TrainedFolder.find(source, choice.configuration)
    with folder_written_whole(output) as whole:
        first = write_folds(trained, whole, choice)
    tell_import(first, list(trained.folds(choice.folds, choice.checkpoint)))
    return first


def write_folds(
    trained: TrainedFolder,
    place: Path,
    choice: NnunetChoice,
    changed: Callable[[ModelRecord], ModelRecord] = lambda record: record,
) -> ModelRecord:
    """Writes the model of one fold into a folder, of several as an ensemble; one is in memory at a time.

    Args:
        trained: The trained folder.
        place: The folder of the model.
        choice: Which folds and checkpoints.
        changed: Gives the record that is written, by nnU-Net's.

    Returns:
        The record of the first fold.

    Raises:
        ModelError: As of ``import_nnunet``.
        OutputError: The folder cannot be written.
    """
    is_one = len(trained.folds(choice.folds, choice.checkpoint)) == 1
    records = []
    for fold in read_folds(trained, choice):
        records.append(changed(fold.record))
        save_model(place if is_one else place / f"fold_{fold.name}", records[-1], fold.weights)
    return records[0]


def previous_stage(trained: TrainedFolder) -> str | None:
    """Returns the configuration whose label maps one of a cascade sees; None of any other."""
    name = trained.named_configuration
    return trained.plans.configuration(name, trained.path / PLANS).previous_stage if name else None


def read_folds(trained: TrainedFolder, choice: NnunetChoice) -> Iterator[Fold]:
    """Yields the model of each fold.

    Raises:
        ModelError: As of ``import_nnunet``.
    """
    files = trained.folds(choice.folds, choice.checkpoint)
    first: ModelRecord | None = None
    for name, path in files.items():
        checkpoint = read_checkpoint(path)
        record, weights = _model(trained, checkpoint, list(files), choice)
        if first is not None and record.plan != first.plan:
            raise ModelError(f"{path}: is of another network or configuration than the fold before; give one --folds")
        first = first or record
        yield Fold(name, record, weights)


def tell_import(record: ModelRecord, folds: Sequence[str]) -> None:
    """Says what is imported, and what the user has to know of it."""
    plan, origin = record.plan, record.origin or Origin(program=PROGRAM)
    which = f"{counted(len(folds), 'fold')} ({', '.join(folds)})"
    say(
        f"{origin.dataset or 'A model'} of {PROGRAM}, {origin.details['configuration']} by "
        f"{origin.details['trainer']}: a {plan.dims}D {plan.architecture.name}, "
        f"{counted(len(record.channels), 'channel')}, {counted(len(record.outputs), 'output')}, {which}"
    )
    for note in origin.notes:
        warn(note)


def _model(
    trained: TrainedFolder, checkpoint: NnunetCheckpoint, folds: Sequence[str], choice: NnunetChoice
) -> tuple[ModelRecord, Tensors]:
    where, plans_file = f"{checkpoint.path} (by {checkpoint.trainer})", trained.path / PLANS
    plans = trained.plans
    name = checkpoint.configuration or trained.named_configuration
    configuration = plans.configuration(name, plans_file)
    if configuration.previous_stage is not None and not choice.as_stage:
        raise ModelError(f"{plans_file}: '{name}' is the second stage of a cascade; {BOTH_STAGES} {name}")
    labels, channels = _labels(trained), channel_names(trained.dataset)
    # The second stage of a cascade sees a channel of 0 and 1 for each label that the first one found.
    previous = () if configuration.previous_stage is None else tuple(f"previous {name}" for name in labels.names)
    weights = cleaned(checkpoint.weights, where)
    order = AxisOrder(len(configuration.patch_size), plans.transpose_forward)
    architecture = architecture_of(configuration.architecture, order.seen, norm_of(weights), f"{plans_file}, '{name}'")
    plan = plan_of(
        plans, configuration, architecture, checkpoint.mirrored_axes, _regions(labels, trained), str(plans_file)
    )
    if choice.orientation is not None:
        plan = plan.model_copy(update={"grid": plan.grid.model_copy(update={"orientation": choice.orientation})})
    masks = (Normalization(kind="mask"),) * len(previous)
    plan = plan.model_copy(
        update={"grid": plan.grid.model_copy(update={"normalization": (*plan.grid.normalization, *masks)})}
    )
    sizes = len(channels) + len(previous), len(plan.outputs(labels))
    state = translated(weights, architecture, order.seen, sizes, where)
    try:
        record = ModelRecord(
            medseg=VERSION,
            plan=plan,
            labels=labels,
            channels=(*channels, *previous),
            inference=InferenceConfig(overlap=0.5, mirror=bool(plan.mirrored_axes), skip_air=False),
            postprocessing=postprocessing_of(trained, folds, labels),
            provenance={
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "torch": torch.__version__,
                "training_cases": _count(trained.dataset),
            },
            metrics={},
            origin=_origin(trained, checkpoint, name, folds, labels),
        )
    except ValidationError as error:
        raise ModelError(
            f"{trained.path}: plans.json and dataset.json do not fit together ({explained(error)})"
        ) from error
    return record, state


def _labels(trained: TrainedFolder) -> Labels:
    file = trained.path / DATASET
    labels, _ = label_names(trained.dataset, file)
    if labels is None or not labels.items:
        raise ModelError(f"{file}: names no labels, so nobody knows what the outputs of the network are")
    if min(labels.values) < 0:
        raise ModelError(f"{file}: a label has the value {min(labels.values)}; those of nnU-Net are 1 and above")
    return labels


def _regions(labels: Labels, trained: TrainedFolder) -> tuple[LearntRegion, ...]:
    """Returns what the outputs stand for where they are regions, in their order; () where they are labels."""
    if not labels.regions:
        return ()
    if not labels.region_order:
        raise ModelError(f"{trained.path / DATASET}: has regions, and no 'regions_class_order'")
    unions, network = labels.unions, {value: i for i, value in enumerate(labels.values, start=1)}
    return tuple(
        LearntRegion(name=name, values=unions[name], value=network[value]) for name, value in labels.region_order
    )


def _origin(
    trained: TrainedFolder, checkpoint: NnunetCheckpoint, configuration: str, folds: Sequence[str], labels: Labels
) -> Origin:
    plans = trained.plans
    details = {
        "trainer": checkpoint.trainer,
        "plans": plans.plans_name,
        "configuration": configuration,
        "folds": ", ".join(folds),
        "checkpoint": checkpoint.path.stem,
        "images read by": plans.image_reader_writer,
        **dict(_values_by_channel(trained)),
    }
    return Origin(
        program=PROGRAM,
        dataset=plans.dataset_name or trained.said("name"),
        description=trained.said("description"),
        reference=trained.said("reference"),
        licence=trained.licence,
        release=trained.said("release"),
        training_cases=_count(trained.dataset),
        details={key: text[:LONGEST] for key, text in details.items()},
        dice=dice_of(trained, folds, labels),
        notes=tuple(_notes(checkpoint, plans.image_reader_writer)),
    )


def _values_by_channel(trained: TrainedFolder) -> Iterator[tuple[str, str]]:
    """Yields in words what values the channels had in training."""
    intensities = trained.plans.foreground_intensity_properties_per_channel
    for number, channel in enumerate(channel_names(trained.dataset)[:MOST_TOLD]):
        if (values := intensities.get(str(number))) is not None:
            ends = f"{values.percentile_00_5:g} to {values.percentile_99_5:g}"
            name = " ".join(channel.split())[:LONGEST]
            yield f"values of {name}", f"{ends} (0.5th and 99.5th percentile of the foreground in training)"


def _notes(checkpoint: NnunetCheckpoint, reader: str) -> Iterator[str]:
    if KNOWN_TRAINER.fullmatch(checkpoint.trainer) is None:
        yield (
            f"{checkpoint.trainer} is no trainer of nnU-Net's own: all weights have their place, but if it changed "
            "what weights don't tell, such as an activation, results differ"
        )
    if not checkpoint.mirrored_axes and not reader.endswith("WithReorient"):
        yield (
            "It was trained without mirroring, and takes images as they are stored: one whose axes point another way "
            "than in training is seen as a mirror image. If you know how they pointed there, say "
            "--orientation, such as LPS"
        )


def _count(content: dict[str, Any]) -> int | None:
    value = content.get("numTraining")
    return value if isinstance(value, int) and value >= 0 else None
