"""What ``predict`` gives back: one prediction a case, and all of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import OutputError, Problem
from medseg.evaluation.predictions_json import PredictedCase, Stamp
from medseg.instances.grouping import Objects
from medseg.io.mask_formats import Written
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.postprocessing.components import RuleEffect
from medseg.volume import Spacing3, Volume


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one case."""

    case_id: str
    source: Path
    spacing: Spacing3 | None  # what the user said of its voxels, in mm
    stages: dict[str, float]  # seconds of work on it, not of waiting: read, network, restore, write
    peak_memory_mb: float  # while it was under way, of the cases before and after it too
    voxels: dict[str, int]  # by name of label or region
    volumes_ml: dict[str, float]  # the same; empty for pictures, whose pixels have no size
    warnings: tuple[str, ...]
    changes: tuple[RuleEffect, ...] = ()  # by postprocessing
    windows: int = 0
    skipped_windows: int = 0  # of them: those that were answered without asking the network
    masks: tuple[Written, ...] = ()  # one for each format that it was written in
    not_written: tuple[str, ...] = ()  # why it was not in the others
    expected_dice: dict[str, float] = field(default_factory=dict)  # with its probabilities, of what has a mask
    estimated_dice: dict[str, float] = field(default_factory=dict)  # with a reference, by what held-back cases had
    review: bool | None = None  # whether a person should look; None where nothing is odd and the model has no rules
    review_reasons: tuple[str, ...] = ()
    forecast_mb: float | None = None  # of the peak, where memory was to be saved
    extras: tuple[str, ...] = ()  # what was written beside the masks
    images: tuple[Stamp, ...] = ()
    kept: Volume | None = None  # the label map, where nothing was to be written
    n_objects: dict[str, int] = field(default_factory=dict)  # by the name of a label whose objects are told apart
    objects: Objects | None = None  # on the grid of the source, where they were not written into a folder

    @property
    def seconds(self) -> float:
        """The seconds of work on the case, which may have been done at the same time as that on other cases."""
        return sum(self.stages.values())

    @property
    def path(self) -> Path | None:
        """The path of the mask in the first format."""
        return self.masks[0].path if self.masks else None

    @property
    def label_map(self) -> Volume:
        """The label map in the values of the labels, one channel, on the grid of the source.

        Raises:
            OutputError: It was written, but in no format that holds a label map.
        """
        if self.kept is not None:
            return self.kept
        for mask in self.masks:
            if mask.format.is_label_map:
                return read_volume(mask.path)
        raise OutputError(f"{self.case_id}: was written in formats that hold no label map; predict with nifti too")

    @property
    def record(self) -> PredictedCase:
        """The entry of the case in predictions.json."""
        return PredictedCase(
            case_id=self.case_id,
            source=str(self.source.resolve()),
            spacing=self.spacing,
            masks={mask.format.name: mask.path.name for mask in self.masks},
            certificates={mask.format.name: mask.certificate.as_json() for mask in self.masks},
            seconds=round(self.seconds, 3),
            stages={name: round(seconds, 3) for name, seconds in self.stages.items()},
            peak_memory_mb=round(self.peak_memory_mb, 1),
            forecast_mb=None if self.forecast_mb is None else round(self.forecast_mb, 1),
            voxels=self.voxels,
            volumes_ml={name: round(ml, 4) for name, ml in self.volumes_ml.items()},
            objects=self.n_objects,
            windows=self.windows,
            skipped_windows=self.skipped_windows,
            expected_dice={name: round(dice, 6) for name, dice in self.expected_dice.items()},
            estimated_dice={name: round(dice, 4) for name, dice in self.estimated_dice.items()},
            review=self.review,
            review_reasons=self.review_reasons,
            postprocessed=tuple(change.as_json() for change in self.changes),
            warnings=self.warnings,
            extras=self.extras,
            images=self.images,
        )


@dataclass(frozen=True)
class PredictResult:
    """All predictions, and the cases that could not be predicted."""

    predictions: tuple[Prediction, ...]
    problems: tuple[Problem, ...]
    labels: Labels
    output: Path | None  # the folder, or the file
    record: dict[str, Any] = field(default_factory=dict)  # the content of predictions.json
    done_before: tuple[str, ...] = ()  # case ids of what an earlier call predicted

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.predictions)
