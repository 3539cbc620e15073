"""preprocess: find cases, check and measure each, plan, bring each to the model grid, store."""

import shlex
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import medseg
from medseg.config import Config, PreprocessingConfig
from medseg.dataset.cases import Case, CaseList, LabelSource, Problem
from medseg.dataset.channel_order import told_of_channels
from medseg.dataset.dataset_json import read_dataset_json
from medseg.dataset.doubts import Doubt, copies_among, doubts_about
from medseg.dataset.grids import FIX, filled_in
from medseg.dataset.layouts import find_cases
from medseg.dataset.reading import Channel, LabelMap, read_channels, read_images, read_label_map, stacked
from medseg.dataset.spacing import with_spacing
from medseg.dataset.store import DatasetRecord, StoredCase, StoredGrid, write_case
from medseg.dataset.strays import rare_values, stray_values, told_as_rare
from medseg.errors import LabelError, MedsegError, OutputError, SourceError
from medseg.files import ensure_folder, write_json, written_whole
from medseg.io.archives import is_temporary
from medseg.io.folders import stem
from medseg.io.nifti import write_nifti
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.labels import MANY_LABELS, Labels
from medseg.parallel import run_in_workers
from medseg.plan import Grid, Normalisation, Plans, UsualValues
from medseg.planning.derive import derive_plans
from medseg.planning.measure import CaseMeasures, fingerprint, measure
from medseg.preprocessing.intensities import Floats, unlike_the_others, usual_values
from medseg.preprocessing.vanishing import Vanished, find_vanished, spacing_to_keep
from medseg.progress import counted, say, track, warn
from medseg.table import write_table
from medseg.volume import Array, Geometry

Item = TypeVar("Item", bound="Case | Checked")
Result = TypeVar("Result")

# Imported once, in the process that workers are forked from. What ``store_case`` needs on top (torch, MONAI) workers
# import themselves: checking, converting and planning do without.
WORKER_MODULES = ("medseg.workflows.preprocess",)

ONE_FILE = ("nifti", "image2d")  # kinds that can be copied

VALUES_SHOWN = 8
CASES_TOLD = 12
ALIKE_TOLD = 3


@dataclass(frozen=True)
class PreprocessResult:
    """What ``preprocess`` made, and what it left out. ``plans`` is None where there were no labels."""

    folder: Path
    record: DatasetRecord
    plans: Plans | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()  # what is doubtful in cases that were taken


@dataclass(frozen=True)
class Checked:
    """A case that was read and found right; what cannot be read as it is any time later was written into the prepared
    folder."""

    case: Case
    measures: CaseMeasures
    resampled: tuple[bool, ...]  # of each image, whether it was brought to the grid of the first
    notes: tuple[str, ...] = ()  # on how its label map was read
    doubts: tuple[Doubt, ...] = ()  # about its images
    model_grid: Geometry | None = None
    profiles: tuple[Floats, ...] = ()  # of the values of each channel
    oddities: Mapping[int, str] = field(default_factory=dict)  # of these values, by channel
    vanished: tuple[Vanished, ...] = ()  # what of its labels is too small for the model grid

    @property
    def case_id(self) -> str:
        return self.case.case_id


def preprocess(
    source: str | Path,
    output: str | Path,
    *,
    config: Config | None = None,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    rename: Mapping[str, str] | None = None,
    spacing: Sequence[float] | None = None,
) -> PreprocessResult:
    """Prepares the cases of ``source`` (any layout, a DICOM study, an archive) in the folder ``output``.

    ``images`` and ``labels`` are glob patterns that select files where the layout can't be guessed; several for images
    are the channels of a case, as in ``["CT=*/CT.nii.gz", "PET=*/PET.nii.gz"]``. ``rename`` merges the named segments
    of DICOM SEG, RTSTRUCT and .seg.nrrd into labels, as in ``{"GTV*": "tumour", "external": ""}``.

    ``spacing`` is that of the voxels in mm, in array-axis order, where headers don't say it: of all cases but those to
    which a cases.csv gives one in its column. It is kept with each case, so that ``train`` and ``evaluate`` know it
    too; files keep their headers, and so do masks.

    With label maps the result is a dataset to train on. Without, the images are checked, DICOM series become NIfTI, and
    the result is a source for ``predict``. Cases with a problem are left out and stand in ``problems`` and in
    problems.csv.

    Raises ``SourceError`` when no case is left.
    """
    config = config or Config()
    found = with_spacing(find_cases(Path(source), images=images, labels=labels, rename=rename), spacing)
    if found.labels is not None:
        found = replace(found, labels=found.labels.ignoring(config.preprocessing.ignore_value))
    folder = _output_folder(Path(output), Path(source))
    # Until all is done the folder is no dataset: its cases may be of two plans.
    (folder / "dataset.json").unlink(missing_ok=True)
    problems = list(found.problems)
    _tell(source, found)
    fix = partial(filled_in, source=Path(source), images=images, labels=labels, rename=rename)
    checked = _check(found, folder, config.preprocessing, problems, fix)
    checked, channels = _same_channels(checked, found.channels, problems)
    if found.labels is None:
        checked = _without_strays(checked, problems, fix)
        _tell_rare(checked)
    known = _labels(found, checked, config.preprocessing.ignore_value)
    checked = _with_known_labels(checked, known, problems)
    absent = known.absent({value for item in checked for value in item.measures.voxels}) if known and checked else ""
    if absent:
        warn(absent)
    _tell_notes(checked, channels)
    warnings = _warnings(checked)
    _tell_warnings(warnings, f"'medseg inspect {shlex.quote(str(source))}'")
    plans = None
    if known is not None and checked:
        measured = fingerprint([item.measures for item in checked])
        plans = derive_plans(measured, channels, config)
        checked = _store(checked, folder, plans.plan_2d.grid, known, config.preprocessing, problems)
        usual, odd = _compared(checked, plans.plan_2d.grid.normalisation, channels)
        warnings += odd
        lost = _lost_labels(checked, known, plans.plan_2d.grid)
        warnings += lost
        _tell_warnings([*odd, *lost], "--json")
        _tell_finest(checked, plans.plan_2d.grid)
        measured = measured.model_copy(update={"usual_values": usual})
        write_json(folder / "fingerprint.json", measured.model_dump(mode="json"))
        write_json(folder / "plan.json", plans.model_dump(mode="json"))
    _write_problems(folder / "problems.csv", problems)
    if not checked:
        raise SourceError(f"{source}: no case is left to prepare; {folder / 'problems.csv'} says why for each")
    record = DatasetRecord(
        medseg=medseg.__version__,
        source=str(Path(source).resolve()),
        layout=found.layout,
        channels=channels,
        labels=known,
        cases=tuple(_stored_case(item, folder, known) for item in sorted(checked, key=lambda i: i.case_id)),
    )
    write_json(folder / "dataset.json", record.model_dump(mode="json"))
    return PreprocessResult(folder, record, plans, tuple(problems), tuple(warning for _, warning in warnings))


def _output_folder(folder: Path, source: Path) -> Path:
    """Raises ``OutputError`` where the user's own dataset.json would be overwritten."""
    content = read_dataset_json(folder)
    if folder.resolve() == source.resolve() or (content and content.get("format") != "medseg-prepared"):
        raise OutputError(f"{folder}: holds a dataset that is not to be overwritten; choose another folder with -o")
    return ensure_folder(folder)


def _tell(source: str | Path, found: CaseList) -> None:
    say(
        f"Found in {source}: {found.layout}; {counted(len(found.cases), 'case')}; channels: {', '.join(found.channels)}"
    )
    for note in found.notes:
        say(f"  {note}")
    for doubt in found.doubts:
        warn(doubt)
    for case in found.cases:
        for image in case.images:
            if image.kind == "dicom" and case.label is None:
                say(f"  {case.case_id}: {image.modality} series '{image.description}', {len(image.files)} slices")
    for problem in found.problems:
        warn(str(problem))


def _check(
    found: CaseList, folder: Path, config: PreprocessingConfig, problems: list[Problem], fix: Callable[[str], str]
) -> list[Checked]:
    """``fix`` completes messages with the command that puts things right."""
    check = partial(check_case, folder=folder, config=config, labels=found.labels, fix=fix)
    return _in_workers(check, found.cases, "Checking", config.workers, problems)


def _store(
    checked: Sequence[Checked],
    folder: Path,
    grid: Grid,
    labels: Labels,
    config: PreprocessingConfig,
    problems: list[Problem],
) -> list[Checked]:
    store = partial(store_case, folder=folder, grid=grid, labels=labels, config=config)
    return _in_workers(store, checked, "Preparing", config.workers, problems)


def _in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    workers: int | None,
    problems: list[Problem],
) -> list[Result]:
    """The results; what went wrong is added to ``problems`` with its case."""
    results = []
    outcomes = run_in_workers(function, items, workers=workers, preload=WORKER_MODULES)
    for outcome in track(outcomes, description, len(items)):
        if outcome.result is not None:
            results.append(outcome.result)
        else:
            case = outcome.item if isinstance(outcome.item, Case) else outcome.item.case
            problem = Problem(case.case_id, case.images[0].path, outcome.error or "failed", outcome.is_defect)
            problems.append(problem)
            warn(str(problem))
    return results


def check_case(
    case: Case, *, folder: Path, config: PreprocessingConfig, labels: Labels | None, fix: Callable[[str], str] = str
) -> Checked:
    """Reads a case, checks and measures it, and writes what cannot stay where it is. Runs in a worker."""
    channels = read_channels(case, config.geometry_tolerance, config.registered)
    image = stacked(channels)
    try:
        drawn = None if case.label is None else read_label_map(case, image.geometry, config.geometry_tolerance)
    except MedsegError as error:
        raise type(error)(fix(str(error))) from error
    ignore = config.ignore_value if labels is None else labels.ignore
    measures = measure(image, drawn and drawn.array, config.orientation, config.crop_to_nonzero, ignore)
    if case.label is not None:
        _check_values(measures.voxels, case.label.path, labels, config)
    images = tuple(_kept_image(case, i, channel, folder / "nifti") for i, channel in enumerate(channels))
    label = _kept_label(case, drawn, image.geometry, folder / "labels")
    resampled = tuple(channel.resampled for channel in channels)
    grids = [c.volume.geometry if c.source.kind == "dicom" else read_geometry(c.source) for c in channels]
    doubts = tuple(doubt for each in map(doubts_about, case.images, grids) for doubt in each)
    notes = drawn.notes if drawn else ()
    return Checked(replace(case, images=images, label=label), measures, resampled, notes, doubts)


def _check_values(voxels: Mapping[int, int], path: Path, labels: Labels | None, config: PreprocessingConfig) -> None:
    """``voxels``: those of each value that was annotated in a label map."""
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


def store_case(item: Checked, *, folder: Path, grid: Grid, labels: Labels, config: PreprocessingConfig) -> Checked:
    """Brings a case to the model grid and stores it. Runs in a worker."""
    # Here, since it brings torch and MONAI: checking and converting do without.
    from medseg.preprocessing.pipeline import prepare

    image = read_images(item.case, config.geometry_tolerance)
    label_map = None
    if item.case.label is not None:
        drawn = read_label_map(item.case, image.geometry, config.geometry_tolerance).array
        label_map = labels.encode(labels.only_annotated(drawn, item.case.annotated))
    prepared = prepare(image, label_map, grid, len(labels.items))
    encoded = None if prepared.label_map is None else prepared.label_map.numpy()
    # The same voxels are kept as foreground however often the case is prepared.
    seed = zlib.crc32(item.case_id.encode())
    write_case(folder / "cases" / item.case_id, prepared.image.numpy(), encoded, seed)
    vanished = []
    if label_map is not None and encoded is not None:
        vanished = find_vanished(label_map, prepared.source, encoded, prepared.geometry, grid.orientation)
    return replace(
        item,
        model_grid=prepared.geometry,
        profiles=prepared.profiles,
        oddities=prepared.oddities,
        vanished=tuple(vanished),
    )


def _compared(
    checked: Sequence[Checked], rules: Sequence[Normalisation], channels: Sequence[str]
) -> tuple[tuple[UsualValues, ...], list[tuple[str, Problem]]]:
    """What values are usual, by channel, and the cases whose values are odd, which are not counted for that."""
    cases = sorted(checked, key=lambda item: item.case_id)
    usual, warnings = [], list[tuple[str, Problem]]()
    for i, (rule, channel) in enumerate(zip(rules, channels, strict=True)):
        flat_or_clipped = {item.case_id: item.oddities[i] for item in cases if i in item.oddities}
        ordinary = [item for item in cases if item.case_id not in flat_or_clipped]
        unlike = unlike_the_others([item.profiles[i] for item in ordinary], rule)
        odd = flat_or_clipped | {ordinary[at].case_id: what for at, what in unlike.items()}
        usual.append(usual_values([item.profiles[i] for item in cases if item.case_id not in odd], rule))
        told = [(item, f"{channel}: {odd[item.case_id]}") for item in cases if item.case_id in odd]
        warnings += [("odd-values", Problem(item.case_id, item.case.images[0].path, what)) for item, what in told]
    return tuple(usual), warnings


def _lost_labels(checked: Sequence[Checked], labels: Labels, grid: Grid) -> list[tuple[str, Problem]]:
    """What of label maps is gone on the model grid, by case, and what keeps it."""
    warnings = []
    for item in sorted(checked, key=lambda item: item.case_id):
        source_grid = item.measures.source_grid
        own = _list(spacing_to_keep(source_grid, grid.orientation))
        for each in item.vanished:
            keeping = f"--set preprocessing.spacing={own}, the spacing of this case, keeps it"
            if each.cropped:
                keeping = "it lies where the image is zero, and --set preprocessing.crop_to_nonzero=false keeps it"
            name, ml = labels.names[each.label - 1], each.voxels * source_grid.voxel_volume_ml
            part = "all of it" if each.entirely else f"{each.lost} of its {each.components} components"
            what = f"{name}: {part} ({counted(each.voxels, 'voxel')}, {ml:.2g} ml) is gone on the model grid; {keeping}"
            path = item.case.label.path if item.case.label else item.case.images[0].path
            warnings.append(("vanished", Problem(item.case_id, path, what)))
    return warnings


def _tell_finest(checked: Sequence[Checked], grid: Grid) -> None:
    """A spacing for all cases of whose labels something is gone."""
    cases = [item for item in checked if any(not each.cropped for each in item.vanished)]
    spacings = [spacing_to_keep(item.measures.source_grid, grid.orientation) for item in cases]
    if spacings:
        finest = _list([min(along) for along in zip(*spacings, strict=True)])
        warn(
            f"Labels or components of them are gone on the model grid of {_list(grid.spacing)} mm in "
            f"{counted(len(cases), 'case')}; --set preprocessing.spacing={finest} is as fine as the finest of these"
        )


def _list(spacing: Iterable[float]) -> str:
    """As ``--set`` takes it."""
    return f"[{','.join(f'{edge:g}' for edge in spacing)}]"


def _kept_image(case: Case, number: int, channel: Channel, folder: Path) -> ImageSource:
    """The image itself where it stays in place; else a file in the prepared folder: one a case, or one a channel with
    the suffix _0000, _0001, …"""
    source = channel.source
    as_it_is = source.kind != "dicom" and not source.part and not channel.resampled
    if as_it_is and not is_temporary(source.path):
        return source
    name = f"{case.case_id}_{number:04d}" if len(case.images) > 1 else case.case_id
    if source.kind in ONE_FILE and as_it_is:
        return _copied(source, folder, name)
    array = channel.volume.array
    written = _written(folder / f"{name}.nii.gz", array[0] if len(array) == 1 else array, channel.volume.geometry)
    return replace(written, spacing=source.spacing)


def _kept_label(case: Case, drawn: LabelMap | None, geometry: Geometry, folder: Path) -> LabelSource | None:
    """A label map that stays in place itself; else one in the prepared folder, as for named segments."""
    if case.label is None or drawn is None:
        return None
    source = case.label.sources[0]
    if case.label.values is None and not is_temporary(source.path):
        return case.label
    if case.label.values is None and source.kind in ONE_FILE:
        return LabelSource((_copied(source, folder, case.case_id),))
    return LabelSource((_written(folder / f"{case.case_id}.nii.gz", drawn.array, geometry),))


def _written(path: Path, array: Array, geometry: Geometry) -> ImageSource:
    write_nifti(path, array, geometry)
    return ImageSource("nifti", path, (path,))


def _copied(source: ImageSource, folder: Path, name: str) -> ImageSource:
    path = folder / f"{name}{source.path.name.removeprefix(stem(source.path))}"
    with written_whole(path) as temporary:
        shutil.copyfile(source.path, temporary)
    return replace(source, path=path, files=(path,))


def _same_channels(
    checked: Sequence[Checked], names: tuple[str, ...], problems: list[Problem]
) -> tuple[list[Checked], tuple[str, ...]]:
    """Cases with the number of channels that most have, and the channels' names."""
    if not checked:
        return [], names
    counts = Counter(len(item.measures.intensities) for item in checked)
    usual = len(names) if len(names) in counts else counts.most_common(1)[0][0]
    kept = []
    for item in checked:
        n_channels = len(item.measures.intensities)
        if n_channels == usual:
            kept.append(item)
            continue
        message = f"{item.case.images[0].path}: number of channels is {n_channels}, most cases have {usual}; left out"
        problems.append(Problem(item.case_id, item.case.images[0].path, message))
        warn(str(problems[-1]))
    if len(names) == usual:
        return kept, names
    if len(names) > 1:
        warn(told_of_channels(names, usual))
    return kept, tuple(f"{names[0] if names else 'channel'}_{i}" for i in range(usual))


def _without_strays(checked: Sequence[Checked], problems: list[Problem], fix: Callable[[str], str]) -> list[Checked]:
    """Cases whose label maps hold no stray values; the others become problems."""
    counts = sum((Counter(item.measures.voxels) for item in checked), Counter())
    strays = stray_values(counts) or {}
    drawn = sorted(set(counts) - set(strays) | {0})
    kept = []
    for item in checked:
        found = {value: n for value, n in item.measures.voxels.items() if value in strays}
        if not found or item.case.label is None:
            kept.append(item)
            continue
        message = (
            f"{item.case.label.path}: was drawn in the values {', '.join(map(str, drawn))}, but holds others too, as "
            f"JPEG, resizing or a slip of the brush leave them: {_some_values(found)}; round them, as {FIX} does, or "
            "name all values in a dataset.json where each is a label; left out"
        )
        problems.append(Problem(item.case_id, item.case.label.path, fix(message)))
        warn(str(problems[-1]))
    return kept


def _tell_rare(checked: Sequence[Checked]) -> None:
    for value, most in sorted(rare_values([item.measures.voxels for item in checked]).items()):
        warn("; ".join(told_as_rare(value, most)).capitalize())


def _with_known_labels(checked: Sequence[Checked], labels: Labels | None, problems: list[Problem]) -> list[Checked]:
    """Cases that say of known labels only that they were annotated; the others become problems."""
    kept = []
    for item in checked:
        try:
            if labels is not None:
                labels.check_annotated(item.case.annotated)
            kept.append(item)
        except LabelError as error:
            path = item.case.label.path if item.case.label else item.case.images[0].path
            problems.append(Problem(item.case_id, path, f"{path}: {error}; left out"))
            warn(str(problems[-1]))
    return kept


def _some_values(voxels: Mapping[int, int]) -> str:
    """The most frequent ones."""
    most = sorted(voxels.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{value} ({counted(n, 'voxel')})" for value, n in most[:VALUES_SHOWN])
    return shown if len(most) <= VALUES_SHOWN else f"{shown}, … ({len(most)} values)"


def _tell_notes(checked: Sequence[Checked], channels: Sequence[str]) -> None:
    for i, channel in enumerate(channels[: len(checked[0].resampled)] if checked else ()):
        n_resampled = sum(item.resampled[i] for item in checked)
        if n_resampled:
            say(f"  {channel}: resampled to the grid of {channels[0]} in {counted(n_resampled, 'case')}")
    n_stacks = sum(item.case.images[0].kind == "image2d" and item.measures.source_grid.shape[2] > 1 for item in checked)
    if n_stacks:
        say(f"  the pages of a TIFF are the slices of one volume: {counted(n_stacks, 'case')}")
    _tell_annotated(checked)
    for item in checked:
        for note in item.notes:
            say(f"  {item.case_id}: {note}")


def _warnings(checked: Sequence[Checked]) -> list[tuple[str, Problem]]:
    """What is doubtful in cases that are taken all the same, and the rule of each."""
    doubts = [(doubt, item.case) for item in checked for doubt in item.doubts]
    doubts += copies_among(item.case for item in checked)
    return [(doubt.rule, Problem(case.case_id, doubt.path, f"{doubt.path}: {doubt}")) for doubt, case in doubts]


def _tell_warnings(warnings: Sequence[tuple[str, Problem]], tells_all: str) -> None:
    """A few of each kind. ``tells_all``: what does."""
    for rule in dict.fromkeys(rule for rule, _ in warnings):
        alike = [warning for of_rule, warning in warnings if of_rule == rule]
        for warning in alike[:ALIKE_TOLD]:
            warn(str(warning))
        if len(alike) > ALIKE_TOLD:
            more = counted(len(alike) - ALIKE_TOLD, "more case")
            warn(f"… and the same of {more}; {tells_all} tells all")


def _tell_annotated(checked: Sequence[Checked]) -> None:
    """How much of each case; only the range where there are many."""
    parts = {item.case_id: item.measures.annotated_part for item in checked if item.measures.annotated_part < 1}
    if len(parts) > CASES_TOLD:
        low, high = min(parts.values()), max(parts.values())
        say(f"  annotated: {low:.1%} to {high:.1%} of the voxels in {counted(len(parts), 'case')}, all of the others")
    else:
        for case_id, part in parts.items():
            say(f"  {case_id}: {part:.1%} of the voxels are annotated")
    partly = [item for item in checked if item.case.annotated is not None]
    for names, n in Counter(item.case.annotated for item in partly).items():
        say(f"  only {', '.join(names or ())} annotated: {counted(n, 'case')}")


def _labels(found: CaseList, checked: Sequence[Checked], ignore: int | None) -> Labels | None:
    """The labels that the layout names, else one for each value that occurs; None without label maps."""
    if not any(case.label for case in found.cases):
        return None
    if found.labels is not None:
        return found.labels
    values = sorted({value for item in checked for value in item.measures.voxels} - {0})
    if checked and not values:
        raise LabelError("all label maps are empty (background only); there is nothing to learn from them")
    if len(values) > MANY_LABELS:
        warn(
            f"The label maps hold {len(values)} different values, and each becomes a label of its own. Where a value "
            "is just the number of an object (a cell, a lesion), write 1 for all objects first; where each is a "
            "structure, name them in a dataset.json"
        )
    return Labels.from_values(values, ignore)


def _stored_case(item: Checked, folder: Path, labels: Labels | None) -> StoredCase:
    annotated = item.case.annotated
    pairs = zip(labels.values, labels.names, strict=True) if labels else ()
    names = {value: name for value, name in pairs if annotated is None or name in annotated}
    voxel_ml = item.measures.source_grid.voxel_volume_ml
    return StoredCase(
        case_id=item.case_id,
        group=item.case.group or item.case_id,
        images=tuple(_recorded(source.path, folder) for source in item.case.images),
        label=None if item.case.label is None else _recorded(item.case.label.path, folder),
        source_grid=StoredGrid(**item.measures.source_grid.as_json()),
        model_grid=None if item.model_grid is None else StoredGrid(**item.model_grid.as_json()),
        volumes_ml={names[v]: round(n * voxel_ml, 4) for v, n in item.measures.voxels.items() if v in names},
        annotated=annotated,
        annotated_part=item.measures.annotated_part,
        spacing=item.case.spacing,
    )


def _recorded(path: Path, folder: Path) -> str:
    """Relative to the prepared folder for files in it, so that it can be moved; absolute for the user's own."""
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _write_problems(path: Path, problems: Sequence[Problem]) -> None:
    rows = [{"case_id": each.case_id, "path": each.path, "problem": each.message} for each in problems]
    write_table(path, ("case_id", "path", "problem"), rows)
