"""A task of TotalSegmentator, from the folder where its program keeps weights, as a model of several members."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medseg.errors import ModelError
from medseg.files import folder_written_whole
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.origin import Origin
from medseg.inferers.recipe import Member, Recipe, Surroundings
from medseg.inferers.recipe_model import save_recipe
from medseg.interop.nnunet.importer import NnunetChoice, write_folds
from medseg.interop.nnunet.trained_folder import TrainedFolder
from medseg.interop.totalsegmentator.tasks import (
    Speed,
    Task,
    Tasks,
    Variant,
    complete_tasks,
    datasets_in,
    labels_of,
    read_tasks,
    usual_weights_folder,
    weights_folder,
)
from medseg.labels import Labels
from medseg.plan import Resampling
from medseg.postprocessing.components import Rule
from medseg.progress import counted, say, warn

PROGRAM = "TotalSegmentator"
PLANS = "nnUNetPlans"
REFERENCE = "Wasserthal et al. 2023, Radiology: Artificial Intelligence, doi 10.1148/ryai.230024"
OPEN = "Apache-2.0, as the program says of its open weights"
LICENSED = "needs a licence of TotalSegmentator, free for non-commercial use: backend.totalsegmentator.com"

# How images come to a model's spacing, and label maps back: scipy.ndimage.zoom between the centres of the first and the
# last voxel, linear and without fractions, and the nearest voxel.
RESAMPLING = Resampling(rule="corners", interpolation="linear", whole_numbers=True, restored="labels")

# Of neighbouring windows; of the tasks that find everything less.
OVERLAP, OVERLAP_OF_TOTAL = 0.5, 0.2

# Rough models, by the modality and whether they are to be robust; and the one that finds the body.
ROUGH: Mapping[tuple[str, bool], tuple[str, Speed]] = {
    ("CT", False): ("total", "fastest"),
    ("CT", True): ("total", "fast"),
    ("MR", False): ("total_mr", "fast"),
    ("MR", True): ("total_mr", "fast"),
}
BODY = "body"
BODY_RULES = (
    Rule(label="body_trunc", largest_component=True, connectivity=6, on_model_grid=True),
    Rule(label="body_extremities", min_volume_ml=50.0, connectivity=6, on_model_grid=True),
)


@dataclass(frozen=True)
class _Source:
    """Which model of nnU-Net a member is.

    Attributes:
        task: That it belongs to.
        variant: Of the task.
        dataset: The number of the model.
    """

    task: str
    variant: Variant
    dataset: int


@dataclass
class _Draft:
    """The members of a recipe while it is made, and where their models come from."""

    tables: Tasks
    members: list[Member] = field(default_factory=list)
    sources: dict[str, _Source] = field(default_factory=dict)

    def add(self, task: str, speed: Speed, gives: bool, crop: Surroundings | None = None) -> list[str]:
        """Adds the models of a task, and returns the names of its members."""
        labels, variant = self.tables.task(task).labels, self.tables.task(task).variants[speed]
        names = []
        for dataset in variant.datasets:
            name, n = self.tables.short_name(dataset), 1
            while name in self.sources:
                n += 1
                name = f"{self.tables.short_name(dataset)}_{n}"
            values = self.tables.values_of(task, dataset)
            given = {label: label for label in values if label in labels} if gives else {}
            self.members.append(Member(name=name, models=(name,), gives=given, crop=crop))
            self.sources[name] = _Source(task, variant, dataset)
            names.append(name)
        return names

    def around(self, task: str) -> Surroundings | None:
        """Adds what finds where a task looks, and returns it; None where the task looks everywhere."""
        crop = self.tables.task(task).crop
        if crop is None:
            return None
        if crop.task is not None:
            (finder,) = self.add(crop.task, "default", False, self.around(crop.task))
        elif set(crop.labels) & set(self.tables.task(BODY).labels):
            (finder,) = self.add(BODY, "fast", False)
        else:
            (finder,) = self.add(*ROUGH["MR" if task.endswith("_mr") else "CT", crop.robust], False)
        return Surroundings(member=finder, labels=crop.labels, margin_mm=crop.margin_mm)


def import_totalsegmentator(source: Path | None, output: Path, name: str = "total", speed: Speed = "default") -> Recipe:
    """Writes a task of TotalSegmentator as a model of several members. Nothing is downloaded, and no code is run.

    Args:
        source: The folder where its program keeps weights, or its home; None: where it keeps them here.
        output: The folder of the model, which should not be there yet.
        name: Of the task.
        speed: "fast" takes the model of 3 mm, "fastest" that of 6 mm, where the task has one. "default" takes that of
            3 mm too where it is there, for ``predict(fast=True)``.

    Returns:
        The recipe.

    Raises:
        ModelError: Weights that the task needs are not there, or cannot be used.
        ConfigError: There is no such task.
        OutputError: ``output`` cannot be written, or is there already.
    """
    tables = read_tasks()
    task = tables.task(name)
    speed = _nearest(task, speed)
    folder = weights_folder(usual_weights_folder() if source is None else source)
    if folder is None:
        raise ModelError(
            f"{source or usual_weights_folder()}: holds no weights of {PROGRAM}; 'totalseg_download_weights -t {name}' "
            "of that program fetches them, or set TOTALSEG_WEIGHTS_PATH"
        )
    there = datasets_in(folder)
    recipe, draft = _recipe(tables, name, task, speed, set(there))
    missing = sorted({each.dataset for each in draft.sources.values()} - set(there))
    if missing:
        complete = ", ".join(complete_tasks(there)) or "none"
        raise ModelError(
            f"{folder}: lacks {', '.join(tables.datasets[each] for each in missing)}, which task '{name}' needs; "
            f"'totalseg_download_weights -t {name}' fetches them; complete are: {complete}"
        )
    _tell(recipe)
    with folder_written_whole(output) as whole:
        for member, of in draft.sources.items():
            _write_member(there[of.dataset], whole / member, of, tables)
        save_recipe(whole, recipe)  # everything fits, or nothing is written
    return recipe


def _tell(recipe: Recipe) -> None:
    """Says what is imported, and what the user has to know of it."""
    origin = recipe.origin
    if origin is None:
        return
    members = ", ".join(member.name for member in recipe.members)
    say(f"{origin.dataset} of {PROGRAM}: {counted(len(recipe.labels.items), 'structure')}, by {members}")
    for note in origin.notes:
        warn(note)


def _nearest(task: Task, speed: Speed) -> Speed:
    """Returns the speed that a task has for the one that was asked for, as the program takes it."""
    if speed in task.variants:
        return speed
    return "fast" if speed == "fastest" and "fast" in task.variants else "default"


def _recipe(tables: Tasks, name: str, task: Task, speed: Speed, there: set[int]) -> tuple[Recipe, _Draft]:
    draft = _Draft(tables)
    crop, rough = draft.around(name), None
    if name.startswith("total"):
        of, how = ROUGH[task.modality, False]
        variant = tables.task(of).variants[how]
        if set(variant.datasets) <= there and variant != task.variants[speed]:
            (finder,) = draft.add(of, how, False)
            rough = Surroundings(member=finder)
    own = draft.add(name, speed, True, crop)
    quick = task.variants.get("fast")
    fast = None
    if speed == "default" and quick is not None and len(quick.datasets) == 1 and set(quick.datasets) <= there:
        (fast,) = draft.add(name, "fast", False, crop)
        own.append(fast)
    if task.within is not None and crop is not None:
        within = Surroundings(member=crop.member, labels=task.within.labels, margin_mm=task.within.margin_mm)
        draft.members = [
            member.model_copy(update={"within": within}) if member.name in own else member for member in draft.members
        ]
    recipe = Recipe(
        labels=labels_of(task.labels),
        channels=(task.modality,),
        members=tuple(draft.members),
        rough=rough,
        fast=fast,
        origin=_origin(tables, name, speed, rough is not None),
    )
    return recipe, draft


def _origin(tables: Tasks, name: str, speed: Speed, looks_roughly: bool) -> Origin:
    """Returns what is known of a task."""
    task = tables.task(name)
    notes = []
    if name.startswith("total") and not looks_roughly and speed == "default":
        notes.append("the model that looks roughly is not there, so that --labels looks at whole images")
    if task.licensed:
        notes.append(f"its weights are not free: {LICENSED}")
    return Origin(
        program=PROGRAM,
        dataset=f"task {name}" + ("" if speed == "default" else f", {speed}"),
        description=f"{counted(len(task.labels), 'structure')} in {task.modality}",
        reference=REFERENCE,
        licence=LICENSED if task.licensed else OPEN,
        release=tables.source.split(",")[0],
        details={"task": name, "speed": speed},
        notes=tuple(notes),
    )


def _write_member(dataset: Path, place: Path, of: _Source, tables: Tasks) -> None:
    """Writes the model of a member, of several folds as an ensemble."""
    variant = of.variant
    named = dataset / f"{variant.trainer}__{PLANS}__{variant.configuration}"
    trained = TrainedFolder.find(named if named.is_dir() else dataset, variant.configuration)
    write_folds(trained, place, NnunetChoice(folds=variant.folds), lambda record: _as_in_task(record, of, tables))


def _as_in_task(record: ModelRecord, of: _Source, tables: Tasks) -> ModelRecord:
    """Returns the record of nnU-Net's model with what TotalSegmentator makes of it."""
    task, grid, origin = tables.task(of.task), record.plan.grid, record.origin
    changes: dict[str, object] = {"orientation": "RAS"}
    if of.variant.spacing is not None:
        changes |= {"spacing": of.variant.spacing, "own_spacing": (), "resample_first": True, "resampling": RESAMPLING}
    overlap = OVERLAP_OF_TOTAL if of.task.startswith("total") else OVERLAP
    told = {"program": PROGRAM, "licence": LICENSED if task.licensed else OPEN, "reference": REFERENCE, "notes": ()}
    return record.model_copy(
        update={
            "plan": record.plan.model_copy(update={"grid": grid.model_copy(update=changes)}),
            "labels": _labels(record, tables.values_of(of.task, of.dataset)),
            "inference": record.inference.model_copy(update={"overlap": overlap, "mirror": False, "skip_air": False}),
            "postprocessing": BODY_RULES if of.task == BODY else (),
            "origin": None if origin is None else origin.model_copy(update=told),
        }
    )


def _labels(record: ModelRecord, values: Mapping[str, int]) -> Labels:
    """Returns the labels of a model by the program's names; others, which only help the network, by their values.

    Raises:
        ModelError: The model lacks a label, or has regions.
    """
    lacking = sorted(set(values.values()) - set(record.labels.values))
    if lacking or record.labels.regions:
        what = f"no label of the value {lacking[0]}" if lacking else "regions"
        name = record.origin.dataset if record.origin else "a model"
        raise ModelError(f"{name}: has {what}, so it is not the one that {PROGRAM} has by this name")
    names = {value: name for name, value in values.items()}
    return labels_of({names.get(value, f"auxiliary_{value}"): value for value in record.labels.values})


def licence_of(folder: str) -> str | None:
    """Returns the licence of the weights in a folder of that name; None where the program has no such ones.

    Args:
        folder: The name of the folder of a dataset, as "Dataset297_TotalSegmentator_total_3mm_1559subj".
    """
    tables = read_tasks()
    numbers = [number for number, name in tables.datasets.items() if name == folder]
    tasks = [
        task
        for task in tables.tasks.values()
        if any(set(numbers) & set(variant.datasets) for variant in task.variants.values())
    ]
    if not tasks:
        return None
    return LICENSED if all(task.licensed for task in tasks) else OPEN
