"""The tasks of TotalSegmentator: their models, structures and steps (Wasserthal et al. 2023, doi 10.1148/ryai.230024).

``tasks.json`` and ``structures.csv`` hold what its version 2.18.0 (Apache-2.0) says: which models make up a task, at
which spacing, what they find, and the codes and colours of that.
"""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from medseg.errors import ConfigError, did_you_mean
from medseg.labels import MOST_LABELS, Labels
from medseg.records import Record, read_record
from medseg.table import read_table

HERE = Path(__file__).parent
ADVICE = "install medseg again"

Speed = Literal["default", "fast", "fastest"]
CLASSES = Field(min_length=1, max_length=MOST_LABELS)


class Variant(Record):
    """The models of a task at one resolution.

    Attributes:
        datasets: Numbers of nnU-Net's datasets, one a part; what a later one finds lies on top.
        spacing: To which images are resampled, in mm along R, A, S; None: nnU-Net itself does it.
        trainer: Of nnU-Net.
        configuration: Of nnU-Net.
        folds: Of nnU-Net, whose logits are averaged; (): all that are there.
    """

    datasets: tuple[PositiveInt, ...] = Field(min_length=1)
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None
    trainer: str
    configuration: str
    folds: tuple[str, ...]


class TaskCrop(Record):
    """Where the models of a task look.

    Attributes:
        labels: Around these structures.
        robust: Whether they are found at 3 mm, not at 6.
        task: That finds them; None: the rough model of all structures, or of the body.
        margin_mm: How far around.
    """

    labels: tuple[str, ...] = CLASSES
    robust: bool
    task: str | None = None
    # The program takes 20 mm wherever its rough model finds the place, whatever the task says.
    margin_mm: NonNegativeFloat = 20.0


class TaskWithin(Record):
    """Outside of what a task finds nothing.

    Attributes:
        labels: Of the rough model.
        margin_mm: How far around them.
    """

    labels: tuple[str, ...] = CLASSES
    margin_mm: NonNegativeFloat


class Task(Record):
    """What TotalSegmentator can be asked for.

    Attributes:
        modality: "CT" or "MR".
        licensed: Whether its weights need a licence, which is free for non-commercial use.
        labels: Values by names.
        variants: By how fast they are.
        crop: Where its models look; None: everywhere.
        within: Where it may find something; None: everywhere.
    """

    modality: Literal["CT", "MR"]
    licensed: bool
    labels: dict[str, PositiveInt] = CLASSES
    variants: dict[Speed, Variant]
    crop: TaskCrop | None = None
    within: TaskWithin | None = None


class Tasks(Record):
    """tasks.json.

    Attributes:
        source: Where it comes from.
        datasets: Names of folders by numbers of datasets.
        parts: Of a task of several parts, the values that each one's model has by names.
        tasks: By name.
    """

    source: str
    datasets: dict[int, str]
    parts: dict[int, dict[str, PositiveInt]]
    tasks: dict[str, Task]

    def task(self, name: str) -> Task:
        """Returns a task.

        Raises:
            ConfigError: There is none of that name.
        """
        if name not in self.tasks:
            raise ConfigError(f"--task {name}: is no task of TotalSegmentator{did_you_mean(name, self.tasks)}")
        return self.tasks[name]

    def values_of(self, task: str, dataset: int) -> dict[str, int]:
        """Returns the values that a model of a task has by names of structures."""
        return dict(self.parts.get(dataset, self.task(task).labels))

    def short_name(self, dataset: int) -> str:
        """Returns what a dataset is called in a few words: "organs" of "Dataset291_…_part1_organs_1559subj"."""
        name = re.sub(r"^Dataset\d+_|_\d+subj$", "", self.datasets[dataset])
        return re.sub(r"^(TotalSeg(mentator|MRI)_)?(part\d+_)?", "", name)


@cache
def read_tasks() -> Tasks:
    """Returns all tasks that medseg knows."""
    return read_record(HERE / "tasks.json", Tasks, ADVICE)


@cache
def _descriptions() -> dict[str, dict[str, Any]]:
    """Returns colours and codes by the name of a structure."""
    result: dict[str, dict[str, Any]] = {}
    for row in read_table(HERE / "structures.csv", ADVICE):
        codes = {
            part: {key: row[f"{part}_{key}"] for key in ("scheme", "value", "meaning")}
            for part in ("category", "type", "modifier")
            if row[f"{part}_value"]
        }
        result[row["name"]] = {"colour": tuple(int(row[each]) for each in ("red", "green", "blue")), **codes}
    return result


def labels_of(values_by_name: dict[str, int]) -> Labels:
    """Returns labels with the colours and codes that TotalSegmentator gives them; others with those of medseg."""
    known = _descriptions()
    return Labels.from_names(values_by_name).described({name: known[name] for name in values_by_name if name in known})


def usual_weights_folder() -> Path:
    """Returns the folder where TotalSegmentator keeps weights, by its own rules."""
    if "TOTALSEG_WEIGHTS_PATH" in os.environ:
        return Path(os.environ["TOTALSEG_WEIGHTS_PATH"])
    home = os.environ.get("TOTALSEG_HOME_DIR")
    return (Path(home) if home else Path.home() / ".totalsegmentator") / "nnunet" / "results"


def weights_folder(source: Path) -> Path | None:
    """Returns the folder with datasets of TotalSegmentator in ``source``; None where there is none.

    Args:
        source: Where its program keeps weights, or its home.
    """
    known = {number_of(name) for name in read_tasks().datasets.values()}
    for folder in (source, source / "nnunet" / "results"):
        if folder.is_dir() and known & {number_of(path.name) for path in folder.iterdir() if path.is_dir()}:
            return folder
    return None


def number_of(folder: str) -> int | None:
    """Returns the number of a dataset by the name of its folder; None where that is none."""
    found = re.match(r"Dataset(\d+)_", folder)
    return int(found[1]) if found else None


def datasets_in(folder: Path) -> dict[int, Path]:
    """Returns the folders of datasets by their numbers."""
    found = ((number_of(path.name), path) for path in sorted(folder.iterdir()) if path.is_dir())
    return {number: path for number, path in found if number is not None}


def complete_tasks(there: Iterable[int]) -> dict[str, list[Speed]]:
    """Returns the tasks, and how fast, all of whose own models are there.

    Args:
        there: Numbers of datasets.
    """
    numbers, tasks = set(there), read_tasks().tasks
    found = {
        name: [speed for speed, variant in task.variants.items() if set(variant.datasets) <= numbers]
        for name, task in tasks.items()
    }
    return {name: speeds for name, speeds in found.items() if speeds}
