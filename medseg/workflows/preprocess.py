"""preprocess: find cases, check and measure each, plan, bring each to the model grid, store."""

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from medseg.config import Config
from medseg.dataset.cases import CaseSelection, as_names
from medseg.dataset.grid_mismatch import filled_in
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.prepared_json import write_dataset, write_fingerprint, write_plans
from medseg.dataset.spacing import with_spacing
from medseg.errors import Problem, SourceError
from medseg.labels import Labels
from medseg.plan import Plans
from medseg.planning.derive import derive_plans
from medseg.planning.measure import fingerprint
from medseg.preparation.agreement import AgreedCases, agree
from medseg.preparation.case_warnings import (
    CaseWarning,
    compare_values,
    image_warnings,
    lost_labels,
    tell_finest_spacing,
    tell_warnings,
)
from medseg.preparation.checked_case import Preparation, check_cases, check_transforms, store_cases
from medseg.preparation.notes import tell_checked, tell_found
from medseg.preparation.prepared_folder import PreprocessResult, begin_folder, dataset_record
from medseg.problems import write_problems
from medseg.remote_workers import RemoteWorkers
from medseg.workflows.fetch import fetched_if_remote

DEIDENTIFIED = "deidentified"  # the folder of copies, in the prepared one


def preprocess(
    source: str | Path,
    output: str | Path,
    *,
    config: Config | None = None,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    rename: Mapping[str, str] | None = None,
    spacing: Sequence[float] | None = None,
    instances: str | Sequence[str] = (),
    deidentify: str | Path | None = None,
    executor: Executor | None = None,
) -> PreprocessResult:
    """Prepares the cases of a source for training and prediction.

    With label maps the result is a dataset to train on. Without, the images are checked, DICOM series become NIfTI, and
    the result is a source for ``predict``. Cases with a problem are left out and stand in ``problems`` and in
    problems.csv.

    Args:
        source: Any layout, a DICOM study, an archive; or an address as ``fetch`` has it.
        output: The folder of the prepared dataset.
        config: All other settings. Transforms in ``preprocessing.transforms`` are MONAI's, or those of plugins, which
            ``medseg.plugins.load_plugins`` loads before.
        images: Glob patterns that select files where the layout can't be guessed; several are the channels of a case,
            as in ``["CT=*/CT.nii.gz", "PET=*/PET.nii.gz"]``.
        labels: A glob pattern of the label maps.
        rename: Merges the named segments of DICOM SEG, RTSTRUCT and .seg.nrrd into labels, as in
            ``{"GTV*": "tumour", "external": ""}``.
        spacing: Of the voxels in mm, in array-axis order, where headers don't say it: of all cases to which no
            cases.csv gives one. It is kept with each, so that ``train`` and ``evaluate`` know it; headers stay.
        instances: The names of labels whose objects are told apart, as in ``"nucleus"``; dataset.json may name them
            too. Where it is the only label, values of label maps number its objects; each segment and each file of a
            mask is an object; else the object maps in a folder ``objects`` are read, or connected components taken.
        deidentify: The file of a key. DICOM is first copied into ``output/deidentified`` by the basic profile of
            PS3.15, and only the copies are used; all else is left out. The key leads back to patients: it is made where
            there is none, and may not lie in ``output``.
        executor: Works on the cases, in place of processes of this machine: see ``medseg.open_cluster``.

    Returns:
        What was made, and what was left out.

    Raises:
        SourceError: No case is left.
        ConfigError: A pattern or a name fits nothing, or a transform is not known.
        OutputError: ``output`` holds a dataset of the user's own.
    """
    settings = (config := config or Config()).preprocessing
    source, left_out = fetched_if_remote(source, output), []
    if deidentify is not None:
        from medseg.preparation.deidentification import deidentified_copy

        left_out = deidentified_copy(Path(source), Path(output) / DEIDENTIFIED, Path(deidentify))
        source = Path(output) / DEIDENTIFIED
    check_transforms(settings.transforms)
    selection = CaseSelection(images, labels, rename=rename, instances=as_names(instances))
    found = with_spacing(cases_in(Listing(Path(source)), selection), spacing)
    if found.labels is not None:
        found = replace(found, labels=found.labels.ignoring(settings.ignore_value))
    folder = begin_folder(Path(output), Path(source))
    problems = [*left_out, *found.problems]
    tell_found(source, found)
    fix = partial(filled_in, source=Path(source), selection=selection)
    remote = RemoteWorkers(executor, (Path(source), *found.first_files), folder) if executor else None
    preparation = Preparation(folder, settings, remote or settings.workers)
    checked = check_cases(found, preparation, problems, fix)
    agreed = agree(checked, found, settings.ignore_value, problems, fix)
    tell_checked(*agreed)
    warnings = image_warnings(agreed.cases)
    tell_warnings(warnings, f"'medseg inspect {shlex.quote(str(source))}'")
    plans = None
    if agreed.labels is not None and agreed.cases:
        agreed, plans, doubtful = _plan_and_store(agreed, agreed.labels, preparation, config, problems)
        warnings += doubtful
    listed = write_problems(folder, problems)
    if not agreed.cases:
        raise SourceError(f"{source}: no case is left to prepare; {listed} says why for each")
    record = dataset_record(folder, Path(source), found.layout, agreed)
    write_dataset(folder, record)
    doubted = tuple(each.problem for each in warnings if not each.is_note)
    return PreprocessResult(folder, record, plans, tuple(problems), doubted)


def _plan_and_store(
    agreed: AgreedCases, labels: Labels, preparation: Preparation, config: Config, problems: list[Problem]
) -> tuple[AgreedCases, Plans, list[CaseWarning]]:
    """Plans, brings all cases to the model grid and stores them.

    Returns:
        The cases that were stored, the plans, and what was found doubtful on the way.
    """
    measured = fingerprint([item.measures for item in agreed.cases])
    plans = derive_plans(measured, agreed.channels, config)
    grid = plans.plan_2d.grid
    stored = store_cases(agreed.cases, preparation, grid, labels, problems)
    usual, odd = compare_values(stored, grid.normalization, agreed.channels)
    lost = lost_labels(stored, labels, grid)
    tell_warnings([*odd, *lost], "--json")
    tell_finest_spacing(stored, grid)
    write_fingerprint(preparation.folder, measured.model_copy(update={"usual_values": usual}))
    write_plans(preparation.folder, plans)
    return agreed._replace(cases=stored), plans, [*odd, *lost]
