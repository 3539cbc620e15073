"""One case: read, checked and measured; then brought to the model grid and stored."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from medseg.config import PreprocessingConfig
from medseg.dataset.cases import Case, CaseList, LabelSource
from medseg.dataset.image_warnings import ImageWarning, header_warnings, value_warnings
from medseg.dataset.label_shapes import LabelShape, label_shapes
from medseg.dataset.prepared_arrays import write_case_arrays
from medseg.dataset.prepared_files import kept_image, kept_label, written_label, written_objects
from medseg.dataset.reading import read_channels, read_images, stacked
from medseg.errors import LabelError, MedsegError, Problem
from medseg.instances.case_labels import CaseLabels, read_case_labels
from medseg.instances.object_map import LostObjects, ObjectMap, components, find_lost_objects, objects_on
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.parallel import Workers, run_in_workers
from medseg.plan import Grid
from medseg.planning.measure import CaseMeasures, measure
from medseg.plugins import load_plugins, loaded_plugins, needed_plugins
from medseg.progress import say, warn
from medseg.transforms.intensities import Floats
from medseg.transforms.lost_labels import LostComponents, find_lost_components
from medseg.volume import Array, Geometry

Item = TypeVar("Item", bound="Case | Checked")
Result = TypeVar("Result")


class Preparation(NamedTuple):
    """How cases are prepared, and by whom: the prepared folder, the settings, and the workers."""

    folder: Path
    config: PreprocessingConfig
    workers: Workers = None


@dataclass(frozen=True)
class Checked:
    """A case that was read and found right.

    What cannot be read as it is any time later was written into the prepared folder.
    """

    case: Case
    measures: CaseMeasures
    resampled: tuple[bool, ...]  # of each image, whether it was brought to the grid of the first
    shapes: Mapping[int, LabelShape] = field(default_factory=dict)  # of its labels, by value
    notes: tuple[str, ...] = ()  # on how its label map was read
    doubts: tuple[ImageWarning, ...] = ()  # about its images
    model_grid: Geometry | None = None
    profiles: tuple[Floats, ...] = ()  # of the values of each channel
    oddities: Mapping[int, str] = field(default_factory=dict)  # of these values, by channel
    vanished: tuple[LostComponents, ...] = ()  # what of its labels is too small for the model grid
    n_objects: Mapping[str, int] = field(default_factory=dict)  # of each instance label, by its name
    object_names: tuple[str, ...] = ()  # what each is called on disk
    in_components: bool = False  # whether its objects are the connected components of its labels, whatever was read
    vanished_objects: tuple[LostObjects, ...] = ()  # those that are too small for the model grid

    @property
    def case_id(self) -> str:
        """The name of the case."""
        return self.case.case_id

    @property
    def drawn_path(self) -> Path:
        """The path of its label map; of its first image where it has none."""
        return self.case.label.path if self.case.label else self.case.images[0].path


def check_cases(
    found: CaseList, preparation: Preparation, problems: list[Problem], fix: Callable[[str], str]
) -> list[Checked]:
    """Returns the cases that can be read and are right.

    Args:
        found: All cases.
        preparation: Where, how and by whom.
        problems: What is wrong with the other cases is added to these.
        fix: Completes messages with the command that puts things right.
    """
    folder, config = preparation.folder, preparation.config
    check = partial(check_case, folder=folder, config=config, labels=found.labels, fix=fix)
    return _in_workers(check, found.cases, "Checking", preparation.workers, problems)


def check_transforms(specs: Sequence[Mapping[str, Any]]) -> None:
    """Checks the transforms that every case will get, before hours are spent on the first of them.

    Args:
        specs: ``preprocessing.transforms``.

    Raises:
        ConfigError: There is no transform of a name, or it has no such argument.
        PluginError: A plugin cannot make one.
    """
    if specs:
        from medseg.transforms.registry import ValueTransform  # brings torch and MONAI

        for spec in specs:
            ValueTransform(spec)


def store_cases(
    checked: Sequence[Checked], preparation: Preparation, grid: Grid, labels: Labels, problems: list[Problem]
) -> list[Checked]:
    """Returns the cases that could be brought to the model grid and stored.

    What is wrong with the others is added to ``problems``. Where no case has two objects of a label, what is drawn
    numbers none: objects are the connected components then.
    """
    if labels.instances and all(max(item.n_objects.values(), default=0) < 2 for item in checked):
        checked = [replace(item, in_components=True) for item in checked]
        say(f"  in no case are two objects of {', '.join(labels.instances)} told apart: connected components are taken")
    plugins = needed_plugins("transform", (str(spec.get("name")) for spec in grid.transforms))
    # What a script registered is known in this process only.
    workers = 1 if plugins is None else preparation.workers
    store = partial(
        store_case,
        folder=preparation.folder,
        grid=grid,
        labels=labels,
        config=preparation.config,
        plugins=tuple(plugins or ()),
    )
    return _in_workers(store, checked, "Preparing", workers, problems)


def check_case(
    case: Case, *, folder: Path, config: PreprocessingConfig, labels: Labels | None, fix: Callable[[str], str] = str
) -> Checked:
    """Reads a case, checks and measures it, and writes what cannot stay where it is. It runs in a worker.

    Raises:
        MedsegError: The case is to be left out.
    """
    channels = read_channels(case, config.geometry_tolerance, config.registered)
    image = stacked(channels)
    try:
        drawn = None
        if case.label is not None:
            drawn = read_case_labels(case, image.geometry, labels, config.geometry_tolerance)
    except MedsegError as error:
        raise type(error)(fix(str(error))) from error
    ignore = config.ignore_value if labels is None else labels.ignore
    measures = measure(image, drawn and drawn.label_map, config.orientation, config.crop_to_nonzero, ignore)
    if case.label is not None:
        _check_values(measures.voxels, case.label.path, labels, config)
    images = tuple(kept_image(case, i, channel, folder / "nifti") for i, channel in enumerate(channels))
    label, objects = _kept_labels(case, drawn, image.geometry, folder)
    resampled = tuple(channel.resampled for channel in channels)
    grids = [c.volume.geometry if c.source.kind == "dicom" else read_geometry(c.source) for c in channels]
    doubts = [doubt for each in map(header_warnings, case.images, grids) for doubt in each]
    if case.label is None:  # else its values are compared with those of other cases, once it is prepared
        doubts += value_warnings(case.images[0].path, image.array)
    notes = drawn.notes if drawn else ()
    checked = replace(case, images=images, label=label, objects=objects)
    found = drawn.objects if drawn else None
    return Checked(
        checked,
        measures,
        resampled,
        {} if drawn is None else label_shapes(drawn.label_map, image.geometry.spacing, ignore),
        notes,
        tuple(doubts),
        n_objects=found.counts(labels) if found and labels else {},
        object_names=found.names if found else (),
    )


def _kept_labels(
    case: Case, drawn: CaseLabels | None, grid: Geometry, folder: Path
) -> tuple[LabelSource | None, ImageSource | None]:
    """Returns label map and object map where they stay, or where they were written."""
    if drawn is None or drawn.objects is None:
        return kept_label(case, drawn and drawn.label_map, grid, folder / "labels"), None
    label = written_label(case.case_id, drawn.label_map, grid, folder / "labels")
    return label, written_objects(case.case_id, drawn.objects.array, grid, folder / "objects")


def _check_values(voxels: Mapping[int, int], path: Path, labels: Labels | None, config: PreprocessingConfig) -> None:
    """Checks that something can be learnt from a label map; ``voxels`` are those of each value that was annotated in
    it.

    Raises:
        LabelError: Nothing can.
    """
    values = [value for value in voxels if value]
    if not voxels:
        raise LabelError(f"{path}: no voxel is annotated, all have the ignore value; leave the case out")
    if not values and not config.allow_empty_labels:
        raise LabelError(
            f"{path} is empty (background only); leave the case out, or accept it with "
            "--set preprocessing.allow_empty_labels=true"
        )
    if labels is not None:
        try:
            labels.check(values)
        except LabelError as error:
            raise LabelError(f"{path}: {error}; correct the label map, or name all values in dataset.json") from error


def store_case(
    item: Checked,
    *,
    folder: Path,
    grid: Grid,
    labels: Labels,
    config: PreprocessingConfig,
    plugins: Sequence[Path] = (),
) -> Checked:
    """Brings a case to the model grid and stores it. Runs in a worker, which loads ``plugins`` if it has not yet."""
    load_plugins(set(plugins) - set(loaded_plugins()))
    # Here, since it brings torch and MONAI: checking and converting do without.
    from medseg.transforms.prepared import prepare

    image = read_images(item.case, config.geometry_tolerance)
    label_map = objects = None
    if item.case.label is not None:
        drawn, objects, _ = read_case_labels(item.case, image.geometry, labels, config.geometry_tolerance)
        label_map = labels.encode(labels.only_annotated(drawn, item.case.annotated))
        if item.in_components:
            item, objects = _with_components(item, drawn, labels, folder)
    prepared = prepare(image, label_map, grid)
    encoded = None if prepared.label_map is None else prepared.label_map.numpy()
    on_grid = None
    if objects is not None and encoded is not None:
        on_grid = objects_on(objects.array, image.geometry, prepared.geometry)
        encoded = _fitting(encoded, on_grid, objects, labels)
        item = replace(item, vanished_objects=_lost(item, objects, on_grid))
    # The same voxels are kept as foreground however often the case is prepared.
    seed = zlib.crc32(item.case_id.encode())
    write_case_arrays(folder / "cases" / item.case_id, prepared.image.numpy(), encoded, seed, on_grid)
    vanished = []
    if label_map is not None and encoded is not None:
        vanished = find_lost_components(label_map, prepared.source, encoded, prepared.geometry, grid.orientation)
        vanished = [each for each in vanished if each.label not in labels.instance_values]
    return replace(
        item,
        model_grid=prepared.geometry,
        profiles=prepared.profiles,
        oddities=prepared.oddities,
        vanished=tuple(vanished),
    )


def _with_components(item: Checked, label_map: Array, labels: Labels, folder: Path) -> tuple[Checked, ObjectMap]:
    """Returns a case whose objects are the connected components of its label map, which are stored in place of those
    that were read."""
    objects = components(label_map, labels)
    source = written_objects(item.case_id, objects.array, item.measures.source_grid, folder / "objects")
    changed = replace(item, case=replace(item.case, objects=source))
    return replace(changed, n_objects=objects.counts(labels), object_names=objects.names), objects


def _fitting(label_map: Array, objects: Array, drawn: ObjectMap, labels: Labels) -> Array:
    """Returns a label map, in network values, that has an instance label where there is an object, and nowhere else."""
    network = np.array([0, *(labels.values.index(value) + 1 for value in drawn.classes)], np.uint8)
    alone = np.isin(label_map, labels.instance_values) & (objects == 0)
    fitting: Array = np.where(objects > 0, network[objects], np.where(alone, 0, label_map)).astype(np.uint8)
    return fitting


def _lost(item: Checked, objects: ObjectMap, on_grid: Array) -> tuple[LostObjects, ...]:
    """Returns the objects that are gone on the model grid, by the names that they had before they were stored."""
    return tuple(find_lost_objects(replace(objects, names=item.object_names), on_grid))


def _in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    workers: Workers,
    problems: list[Problem],
) -> list[Result]:
    """Returns the results; what went wrong is added to ``problems`` with its case."""
    results = []
    for outcome in run_in_workers(function, items, workers=workers, description=description):
        if outcome.result is not None:
            results.append(outcome.result)
        else:
            case = outcome.item if isinstance(outcome.item, Case) else outcome.item.case
            leave_out(outcome.problem(case.case_id, case.images[0].path), problems)
    return results


def leave_out(problem: Problem, problems: list[Problem]) -> None:
    """Adds a problem for which a case is left out to ``problems``, and tells it."""
    problems.append(problem)
    warn(str(problem))
