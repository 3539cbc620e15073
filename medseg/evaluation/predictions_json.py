"""predictions.json in a folder of masks: what was predicted, of what, by which model; its record, reader and writer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from medseg.io.structure_names import file_names
from medseg.labels import Labels
from medseg.problems import ProblemRecord
from medseg.records import PathInside, Record, read_record, write_record
from medseg.volume import Spacing3

PREDICTIONS_FILE = "predictions.json"
OBJECTS = "objects"  # the folder of object maps beside it
PROBABILITIES = "probabilities"  # the folder beside it, which 'medseg predict --save-probabilities' writes
ADVICE = "run 'medseg predict' again, or remove this file"

Stamp = tuple[str, int, int]  # of an image: its path, size in bytes, and time of change in ns


class PredictedCase(Record):
    """One case. Older versions wrote less, newer ones may write more.

    Attributes:
        case_id: Its name.
        source: Path of its first image.
        spacing: What the user said of its voxels, in mm, in array-axis order; None where the header holds.
        masks: Names of the files in the folder, by format.
        certificates: What another reader found, by format.
        seconds: Of work on it, not of waiting.
        stages: The same by stage: read, network, restore, write.
        peak_memory_mb: While it was under way, of the cases before and after it too.
        forecast_mb: Of the peak, where memory was limited.
        voxels: By name of label or region.
        volumes_ml: The same; empty for pictures, whose pixels have no size.
        objects: How many there are of each label whose objects are told apart, by its name.
        windows: Of the image on the model grid.
        skipped_windows: Of them, those that were answered without asking the network.
        expected_dice: With the network's own probabilities, by name, of what has a mask.
        estimated_dice: With a reference, by what held-back cases had.
        review: Whether a person should look at it; None where nothing is odd and the model has no rules.
        review_reasons: Why.
        postprocessed: What each rule changed.
        warnings: About its images and its mask.
        extras: What was written beside the masks: "probabilities", "uncertainty", "statistics", "radiomics",
            "preview".
        images: Path, bytes and time of change in ns of each image.
    """

    model_config = ConfigDict(extra="allow")

    case_id: PathInside
    source: str
    spacing: Spacing3 | None = None
    masks: dict[str, PathInside]
    certificates: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seconds: NonNegativeFloat = 0.0
    stages: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: NonNegativeFloat = 0.0
    forecast_mb: NonNegativeFloat | None = None
    voxels: dict[str, NonNegativeInt] = Field(default_factory=dict)
    volumes_ml: dict[str, float] = Field(default_factory=dict)
    objects: dict[str, NonNegativeInt] = Field(default_factory=dict)
    windows: NonNegativeInt = 0
    skipped_windows: NonNegativeInt = 0
    expected_dice: dict[str, float] = Field(default_factory=dict)
    estimated_dice: dict[str, float] = Field(default_factory=dict)
    review: bool | None = None
    review_reasons: tuple[str, ...] = ()
    postprocessed: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    images: tuple[Stamp, ...] = ()

    @model_serializer(mode="wrap")
    def _without_forecast(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves ``forecast_mb`` out where there is none."""
        content: dict[str, Any] = serialized(self)
        return {key: value for key, value in content.items() if key != "forecast_mb" or value is not None}


class Predictions(Record):
    """The whole file. ``medseg evaluate`` reads it of others than medseg too, who may write the labels alone.

    Attributes:
        medseg: The version that wrote it.
        model: Path of the model's folder.
        members: Of an ensemble, the folder of each model.
        weights_sha256: Of the weights.
        device: What the network ran on.
        backend: What ran it.
        network: Its name and arguments.
        inference: The settings of the windows.
        postprocessing: Rules, as they are told.
        review: The rules by which cases are told to be looked at.
        registered: Whether channels on different grids show one place.
        labels: What the values of the masks mean.
        asked: Ids of the cases that were to be predicted; a call that was killed has not done all of them.
        cases: What was predicted.
        problems: Of cases that could not be predicted.
    """

    model_config = ConfigDict(extra="allow")

    medseg: str = "?"
    model: str = ""
    members: tuple[str, ...] = ()
    weights_sha256: str = ""
    device: str = "?"
    backend: str = "torch"
    network: dict[str, Any] = Field(default_factory=dict)
    inference: dict[str, Any] = Field(default_factory=dict)
    postprocessing: tuple[str, ...] = ()
    review: dict[str, Any] | None = None
    registered: bool = False
    labels: Labels
    asked: tuple[str, ...] = ()
    cases: tuple[PredictedCase, ...] = ()
    problems: tuple[ProblemRecord, ...] = ()


def read_predictions(folder: Path, advice: str = ADVICE) -> Predictions | None:
    """Returns what was predicted into a folder, or None where it has no such file.

    Raises:
        SourceError: The file is damaged; the message ends with ``advice``.
    """
    path = folder / PREDICTIONS_FILE
    return read_record(path, Predictions, advice) if path.is_file() else None


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes predictions.json into a folder; it appears whole.

    Raises:
        OutputError: It cannot be written.
    """
    write_record(folder / PREDICTIONS_FILE, predictions)


def asked_for(predictions: Path) -> set[str] | None:
    """Returns the cases that predictions.json says were to be predicted; None without that file."""
    predicted = read_predictions(predictions)
    if predicted is None:
        return None
    failed = (problem.case_id for problem in predicted.problems)
    return {*predicted.asked, *(case.case_id for case in predicted.cases), *failed} or None


def labels_beside(path: Path) -> Labels | None:
    """Returns the labels in the predictions.json of a folder of predictions, or beside one; None without that file.

    Raises:
        SourceError: The file is there and cannot be read.
    """
    predicted = read_predictions(path if path.is_dir() else path.parent)
    return None if predicted is None else predicted.labels


def sources_beside(predictions: Path) -> dict[str, Path]:
    """Returns images by case id, as predictions.json in a folder of predictions names them; empty without that file.

    Raises:
        SourceError: The file is damaged.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    predicted = read_predictions(folder)
    return {} if predicted is None else {case.case_id: Path(case.source) for case in predicted.cases}


def saved_probabilities(predictions: Path, case_id: str) -> Path | None:
    """Returns the folder with a map for each label of a case; None where none were saved."""
    folder = (predictions if predictions.is_dir() else predictions.parent) / PROBABILITIES / case_id
    return folder if folder.is_dir() else None


def map_paths(folder: Path, labels: Sequence[str]) -> dict[str, Path]:
    """Returns the maps of all labels, in the folder of a case."""
    return {label: folder / f"{name}.nii.gz" for label, name in zip(labels, file_names(labels), strict=True)}
