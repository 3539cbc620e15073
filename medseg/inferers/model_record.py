"""The record of model.json, and how it is read and written. It needs no PyTorch."""

from math import prod
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from medseg.config import InferenceConfig
from medseg.dataset.spacing import SaidSpacing
from medseg.errors import ModelError
from medseg.fingerprint import UsualValues
from medseg.inferers.origin import Origin
from medseg.inferers.recipe import RECIPE
from medseg.inferers.review import Review
from medseg.instances.rule import GroupingRule
from medseg.labels import Labels
from medseg.plan import MOST_PATCH_VOXELS, Plan
from medseg.postprocessing.components import Rule
from medseg.records import Record, read_object, shown_value, validated, write_record
from medseg.version import VERSION

FORMAT_VERSION = 1
RECORD = "model.json"
WEIGHTS = "weights.safetensors"
NAME_DATA = ("source", "init", "watchdog")  # in the provenance of version 0.1
COPY = "copy the whole model folder again"


class InferenceFit(Record):
    """What was gained and lost where training chose the settings of prediction, on held-back cases.

    Attributes:
        cases: How many were compared.
        dice_before: The mean over labels and cases, on the model grid, with windows as in training.
        dice: The same as it was chosen.
        seconds_before: That windows of all these cases took, on the machine of the training.
        seconds: The same as it was chosen.
        int8: Whether the network was quantised, too.
    """

    cases: PositiveInt
    dice_before: float
    dice: float
    seconds_before: float
    seconds: float
    int8: bool = False


class TeacherComparison(Record):
    """What a network lost and gained against the larger one that taught it, on held-back cases.

    Attributes:
        name: Of the teacher's run.
        cases: How many were compared.
        dice_of_teacher: The mean over labels and cases, on the model grid.
        dice: The same of this model.
        seconds_of_teacher: That windows of all these cases took, on the machine of the training.
        seconds: The same of this model.
        is_good_enough: Whether it loses at most .002 of the Dice.
    """

    name: str
    cases: PositiveInt
    dice_of_teacher: float
    dice: float
    seconds_of_teacher: float
    seconds: float
    is_good_enough: bool


class ClickComparison(Record):
    """How good the masks of a network that takes prompts become click by click, on objects of held-back cases.

    A simulated user clicks as in clicks.json.

    Attributes:
        objects: How many: a structure of a case each.
        start: What each began with: the automatic mask, or nothing.
        dice: The mean after 0, 1, 3 and 5 clicks.
        weights: Which ones were kept: those of the best validation, or the last ones.
        dice_of_others: The same of the other ones; None where both are the same.
        seconds_per_answer: The mean, on the machine of the training; None where there was no click.
    """

    objects: PositiveInt
    start: Literal["automatic", "nothing"]
    dice: dict[int, float]
    weights: Literal["best", "last"]
    dice_of_others: dict[int, float] | None = None
    seconds_per_answer: float | None = None


class ModelRecord(Record):
    """The content of model.json: all that is needed to use the weights, and what is known of them.

    Example:
        >>> from medseg.dataset import PreparedDataset
        >>> from medseg.inferers import ModelRecord
        >>> dataset = PreparedDataset("prepared")  # what medseg preprocess wrote
        >>> record = ModelRecord(
        ...     medseg="1.0", plan=dataset.plans.plan_3d, labels=dataset.labels, channels=dataset.record.channels,
        ...     inference=InferenceConfig(overlap=0.25), provenance={}, metrics={},
        ... )
        >>> len(record.outputs) == 1 + len(dataset.labels.items)  # the background, and each label
        True
    """

    format_version: int = FORMAT_VERSION
    medseg: str
    plan: Plan
    labels: Labels
    channels: tuple[str, ...] = Field(min_length=1)
    channel_dropout: bool = False  # whether it learnt to do without some of them
    said_spacings: tuple[SaidSpacing, ...] = ()  # of training images whose headers lost theirs, in mm
    inference: InferenceConfig
    inference_fit: InferenceFit | None = None  # None where training did not choose it, and of older models
    teacher: TeacherComparison | None = None  # of a model that learnt from a larger one
    clicks: ClickComparison | None = (
        None  # of a model that takes prompts; None of older ones, and where none was held back
    )
    postprocessing: tuple[Rule, ...] = ()
    grouping: GroupingRule | None = None  # of a model that learnt objects; None: by the usual rule
    usual_values: tuple[UsualValues, ...] = ()  # of the training data, one a channel; () in older models
    review: Review | None = None  # which cases to look at; None where too few were held back, and of older models
    provenance: dict[str, Any]  # versions, date, number of cases, steps; nothing that names data
    metrics: dict[str, Any]  # validation
    origin: Origin | None = None  # of a model that medseg did not train

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.plan.check_fits(self.labels, self.channels)
        if len(self.usual_values) not in (0, len(self.channels)):
            raise ValueError(f"{len(self.usual_values)} usual values of {len(self.channels)} channels")
        window = self.inference.window or self.plan.network_patch
        if len(window) != self.plan.dims or prod(window) > MOST_PATCH_VOXELS:
            raise ValueError(f"windows of {window} voxels of a {self.plan.dims}D model")
        unknown = {name for rule in self.postprocessing for name in rule.labels} - set(self.labels.names)
        if unknown:
            raise ValueError(f"postprocessing of '{min(unknown)}', which is no label")
        brought_back = self.plan.grid.resampling.restored
        if brought_back != "labels" and any(rule.on_model_grid for rule in self.postprocessing):
            raise ValueError(f"postprocessing on the model grid, from which {brought_back} are brought back")
        return self

    def shareable(self) -> Self:
        """Returns the record without what older versions noted of the data.

        That is its path, and the cases that the watchdog spoke of.
        """
        kept = {key: value for key, value in self.provenance.items() if key not in NAME_DATA}
        return self.model_copy(update={"provenance": kept})

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each channel of the network's output stands for."""
        return self.plan.outputs(self.labels)

    def validated_cases(self, label: str) -> int | None:
        """Returns on how many cases with this label it was validated; None where the metrics don't say."""
        try:
            return int(self.metrics["validation"]["labels"][label]["cases"])
        except (KeyError, TypeError, ValueError):
            return None


def read_model_record(folder: Path) -> ModelRecord:
    """Returns the record of a model folder.

    Raises:
        ModelError: The folder is no model, or its record is damaged or of another format version.
    """
    file = folder / RECORD
    if (folder / RECIPE).is_file():
        members = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{RECORD}")))
        raise ModelError(f"{folder}: is a model of several members; give one of them, a folder in it: {members}")
    if not file.is_file():
        raise ModelError(f"{folder} is no model (it has no {RECORD}); give a folder that 'medseg train' made")
    content = read_object(file, COPY, ModelError)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{file}: has format version {shown_value(version)}, medseg {VERSION} reads {FORMAT_VERSION}; "
            "install the medseg that made it"
        )
    return validated(content, ModelRecord, file, COPY, ModelError)


def write_model_record(folder: Path, record: ModelRecord) -> Path:
    """Writes model.json of a model folder, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / RECORD, record)
