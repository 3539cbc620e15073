"""clicks.json: how good masks become click by click; its record, reader and writer, and what many objects come to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from medseg.problems import ProblemRecord
from medseg.records import Record, read_record, write_record

CLICKS_FILE = "clicks.json"

MODEL = "model"
RANDOM_WALKER = "random walker"
GRAPH_CUT = "graph cut"

GOALS = (0.85, 0.9)  # of NoC

DEFINITIONS = {
    "clicks": "of a simulated user: in the largest connected piece of what is missing or too much, at its voxel that "
    "is farthest from its border, in mm; moved by a normal deviate of `jitter` voxels along each axis, within the "
    "piece. The next click is set when the answer to the last one is there; none where nothing is wrong any more",
    "start": "of a structure that is a label of the model: its automatic mask, which clicks correct, after 0 clicks; "
    "of all others, and of all where `start` is nothing: no mask, and the first click lies inside of the object",
    "dice": "the mean over objects (a structure of a case each) after so many clicks",
    "surface_dice": "the mean of the surface Dice at `tolerance_mm`, as in metrics.json",
    "auc": "area under the curve of the mean Dice over the clicks, by trapezoids, divided by their number: 0 to 1",
    "noc": "clicks until the Dice is that good, the mean over objects; where it never is, as many as there were. "
    "`reached` says in how many objects it is",
    "random walker, graph cut": "segment from the same clicks, those that the user set for the model, in the part of "
    "the image that the model's window around them shows, its outer faces background; scikit-image's random_walker, "
    "and a cut through its SLIC supervoxels by SciPy's maximum_flow. Only where the start is nothing",
}


class Click(Record):
    """A click of the simulated user, in voxels of the image."""

    index: tuple[float, float, float]
    positive: bool


class Scores(Record):
    """What one method reached in one object, by number of clicks."""

    dice: dict[int, float]
    surface_dice: dict[int, float] = Field(default_factory=dict)


class ClickedObject(Record):
    """A structure of a case, segmented click by click.

    Attributes:
        case_id: The case.
        structure: Its name.
        start: Whether it began with the automatic mask.
        reference_ml: Its volume.
        clicks: In their order; fewer than asked for where nothing was wrong any more.
        seconds: Until each answer.
        methods: What the model, and each method that it is compared with, reached.
    """

    case_id: str
    structure: str
    start: Literal["automatic", "nothing"]
    reference_ml: float
    clicks: tuple[Click, ...]
    seconds: tuple[float, ...]
    methods: dict[str, Scores]


class ClickSummary(Record):
    """What one method reached over objects.

    Attributes:
        objects: How many.
        dice: The mean, by number of clicks.
        surface_dice: The mean, by number of clicks.
        lowest: The Dice of the worst object after the last click.
        auc: Area under the curve; None of methods that were not asked after each click.
        noc: Clicks to a Dice, by that Dice.
        reached: In how many objects it was reached, by that Dice.
    """

    objects: int
    dice: dict[int, float]
    surface_dice: dict[int, float]
    lowest: float
    auc: float | None = None
    noc: dict[str, float] = Field(default_factory=dict)
    reached: dict[str, int] = Field(default_factory=dict)


class ClicksRecord(Record):
    """The content of clicks.json: how good masks become click by click.

    Attributes:
        model: Its folder.
        fingerprint: The SHA-256 of its weights.
        references: The dataset.
        clicks: How many a user sets at most.
        counts: After how many the surface Dice, and other methods, are measured.
        start: What structures that the model knows begin with.
        jitter: In voxels.
        seed: Of the jitter.
        tolerance_mm: Of the surface Dice.
        definitions: What the words mean.
        seconds_per_answer: The median; None where there was no click.
        summary: By structure and method; over all objects under "all".
        objects: All that was measured.
        problems: Cases that could not be used.
    """

    model: str
    fingerprint: str
    references: str
    clicks: PositiveInt
    counts: tuple[int, ...]
    start: Literal["automatic", "nothing"]
    jitter: float
    seed: int
    tolerance_mm: float
    definitions: dict[str, str] = Field(default_factory=lambda: dict(DEFINITIONS))
    seconds_per_answer: float | None
    summary: dict[str, dict[str, ClickSummary]]
    objects: tuple[ClickedObject, ...]
    problems: tuple[ProblemRecord, ...] = ()


ALL = "all"


def summarise_clicks(objects: Sequence[ClickedObject], clicks: int) -> dict[str, dict[str, ClickSummary]]:
    """Returns what each method reached in each structure, and over all objects under "all".

    Args:
        objects: What was measured.
        clicks: How many there were at most.

    Examples:
        >>> scores = Scores(dice={0: 0.0, 1: 0.8, 2: 0.9})
        >>> one = ClickedObject(case_id="a", structure="liver", start="nothing", reference_ml=9, clicks=(), seconds=(),
        ...                     methods={"model": scores})
        >>> summary = summarise_clicks([one], 2)["all"]["model"]
        >>> round(summary.auc, 3), summary.noc
        (0.625, {'0.85': 2.0, '0.9': 2.0})
    """
    structures = list(dict.fromkeys(each.structure for each in objects))
    groups = {name: [each for each in objects if each.structure == name] for name in structures}
    groups[ALL] = list(objects)
    return {
        name: {
            method: _summary([each.methods[method] for each in group if method in each.methods], clicks)
            for method in dict.fromkeys(method for each in group for method in each.methods)
        }
        for name, group in groups.items()
    }


def _summary(scores: Sequence[Scores], clicks: int) -> ClickSummary:
    dice = _means([each.dice for each in scores])
    every = list(range(clicks + 1))
    summary = ClickSummary(
        objects=len(scores),
        dice=dice,
        surface_dice=_means([each.surface_dice for each in scores]),
        lowest=min(each.dice[max(each.dice)] for each in scores),
    )
    if sorted(dice) != every:
        return summary
    curve = [dice[count] for count in every]
    noc, reached = {}, {}
    for goal in GOALS:
        first = [next((n for n in every if each.dice[n] >= goal), None) for each in scores]
        noc[str(goal)] = float(np.mean([clicks if n is None else n for n in first]))
        reached[str(goal)] = sum(n is not None for n in first)
    auc = float(np.trapezoid(curve) / clicks)
    return summary.model_copy(update={"auc": auc, "noc": noc, "reached": reached})


def _means(by_count: Sequence[Mapping[int, float]]) -> dict[int, float]:
    counts = sorted({count for each in by_count for count in each})
    return {count: float(np.mean([each[count] for each in by_count if count in each])) for count in counts}


def read_clicks(path: Path) -> ClicksRecord:
    """Reads clicks.json of a folder, or the file itself.

    Raises:
        SourceError: It is damaged.
    """
    file = path / CLICKS_FILE if path.is_dir() else path
    return read_record(file, ClicksRecord, "run 'medseg evaluate --clicks' again")


def write_clicks(folder: Path, record: ClicksRecord) -> Path:
    """Writes clicks.json into a folder, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / CLICKS_FILE, record)
