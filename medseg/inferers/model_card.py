"""What is known of a model: where it came from, what it sees and finds, and what was measured of it."""

from math import prod
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt

from medseg.errors import ModelError
from medseg.inferers.model import model_folders
from medseg.inferers.model_record import COPY, WEIGHTS, ModelRecord, read_model_record
from medseg.inferers.origin import Origin
from medseg.plan import Normalization
from medseg.records import Record
from medseg.weights import read_shapes


class ChannelCard(Record):
    """A channel of the image.

    Attributes:
        name: Of the channel.
        normalization: What is done with its values, in words.
        usual: The range of its values in training images, as far as it is known: the foreground's 0.5th and 99.5th
            percentile where values are clipped to these, else the first and the 99th of a usual case.
    """

    name: str
    normalization: str
    usual: tuple[float, float] | None


class Measured(Record):
    """The mean Dice of a label on cases held back from training; None where no case has it."""

    label: str
    dice: NonNegativeFloat | None
    cases: NonNegativeInt | None
    by: str


class ModelCard(Record):
    """What is known of a model.

    Attributes:
        model: Its folder.
        made_by: The program that trained it.
        medseg: The version of medseg that wrote it.
        origin: What is known of a model that medseg did not train.
        networks: How many there are; the logits of several are averaged.
        network: Its name, depth and width.
        parameters: Of one network.
        dims: Spatial axes that it sees.
        patch_size: Voxels (x, y, z) of a window.
        spacing: Of what it sees, in mm; None along axes where each case keeps its own.
        orientation: Where the axes of what it sees point; "stored": as in the file.
        channels: Of the image.
        labels: Names of the labels by their value in masks.
        regions: The labels of each region, by name.
        training_cases: On how many it was trained; None where nobody says.
        measured: Dice of each label.
        postprocessing: Rules for its masks, in words.
        provenance: What else is known of its training.
    """

    model: str
    made_by: str
    medseg: str
    origin: Origin | None
    networks: int
    network: str
    parameters: int
    dims: int
    patch_size: tuple[int, int, int]
    spacing: tuple[float | None, float | None, float | None]
    orientation: str
    channels: tuple[ChannelCard, ...]
    labels: dict[int, str]
    regions: dict[str, tuple[str, ...]]
    training_cases: int | None
    measured: tuple[Measured, ...]
    postprocessing: tuple[str, ...]
    provenance: dict[str, Any]

    @classmethod
    def of(cls, path: Path) -> "ModelCard":
        """Returns the card of a RUN, a model folder, or a packed model.

        Raises:
            ModelError: There is no model, or it is damaged.
        """
        folders = model_folders(path)
        record = read_model_record(folders[0])
        plan, origin, labels = record.plan, record.origin, record.labels
        names = dict(zip(labels.values, labels.names, strict=True))
        architecture = plan.architecture
        return cls(
            model=str(path),
            made_by=f"medseg {record.medseg}" if origin is None else origin.program,
            medseg=record.medseg,
            origin=origin,
            networks=len(folders),
            network=f"{architecture.name}, features {'-'.join(map(str, architecture.features))}",
            parameters=sum(map(prod, read_shapes(folders[0] / WEIGHTS, COPY, ModelError).values())),
            dims=plan.dims,
            patch_size=plan.patch_size,
            spacing=plan.grid.wanted_spacing,
            orientation=plan.grid.orientation,
            channels=_channels(record),
            labels=names,
            regions={region.name: tuple(names[value] for value in region.values) for region in labels.regions},
            training_cases=record.provenance.get("training_cases") if origin is None else origin.training_cases,
            measured=_measured(record),
            postprocessing=tuple(map(str, record.postprocessing)),
            provenance=record.shareable().provenance,
        )


def _channels(record: ModelRecord) -> tuple[ChannelCard, ...]:
    rules = record.plan.grid.normalization
    cards = []
    for i, (name, rule) in enumerate(zip(record.channels, rules, strict=True)):
        usual: tuple[float, float] | None = None
        if rule.kind == "ct":
            usual = (rule.lower, rule.upper)
        elif record.usual_values:
            values = record.usual_values[i]
            usual = (values.median[0], values.median[-1])
        cards.append(ChannelCard(name=name, normalization=_words(rule), usual=usual))
    return tuple(cards)


def _words(rule: Normalization) -> str:
    words = {
        "ct": f"clipped to {rule.lower:g} to {rule.upper:g}, minus {rule.mean:g}, by {rule.std:g}",
        "zscore": f"minus the mean of the case, by its deviation{', of voxels that are not 0' * rule.nonzero}",
        "linear": f"minus {rule.mean:g}, by {rule.std:g}",
        "none": "as it is",
        "mask": "as it is, a mask of 0 and 1",
    }[rule.kind]
    return words if rule.rescaled is None else f"{words}, then from {rule.rescaled[0]:g} to {rule.rescaled[1]:g}"


def _measured(record: ModelRecord) -> tuple[Measured, ...]:
    """Returns what medseg measured, else what the program that trained the model did."""
    validation = record.metrics.get("validation")
    by_label = validation.get("labels") if isinstance(validation, dict) else None
    if isinstance(by_label, dict) and by_label:
        return tuple(
            Measured(label=name, dice=_mean_dice(summary), cases=record.validated_cases(name), by="medseg")
            for name, summary in by_label.items()
        )
    if record.origin is None:
        return ()
    return tuple(
        Measured(label=name, dice=dice, cases=None, by=record.origin.program)
        for name, dice in record.origin.dice.items()
    )


def _mean_dice(summary: Any) -> float | None:
    try:
        value = summary["metrics"]["dice"]["mean"]
    except (KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None
