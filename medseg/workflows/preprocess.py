"""preprocess: find cases, check and measure each, plan, bring each to the model grid, store."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.config import Config
from medseg.dataset.cases import CaseSelection, as_names
from medseg.dataset.grid_mismatch import filled_in
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.prepared_json import DatasetRecord, write_dataset, write_fingerprint, write_plans
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
from medseg.preparation.checked_case import check_cases, check_transforms, store_cases
from medseg.preparation.notes import tell_checked, tell_found
from medseg.preparation.prepared_folder import PreprocessRecord, begin_folder, dataset_record
from medseg.problems import problem_records, warning_records, write_problems


@dataclass(frozen=True)
class PreprocessResult:
    """A prepared folder, and what was left out of it; ``plans`` is None where there were no labels."""

    folder: Path
    record: DatasetRecord
    plans: Plans | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()  # what is doubtful in cases that were taken

    def as_record(self) -> PreprocessRecord:
        """Returns what ``medseg preprocess --json`` prints."""
        record = self.record
        return PreprocessRecord(
            folder=str(self.folder),
            layout=record.layout,
            channels=record.channels,
            labels=record.labels,
            cases=tuple(case.case_id for case in record.cases),
            annotated_part={case.case_id: round(case.annotated_part, 6) for case in record.cases},
            problems=problem_records(self.problems),
            warnings=warning_records(self.warnings),
        )


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
) -> PreprocessResult:
    """Prepares the cases of a source for training and prediction.

    With label maps the result is a dataset to train on. Without, the images are checked, DICOM series become NIfTI, and
    the result is a source for ``predict``. Cases with a problem are left out and stand in ``problems`` and in
    problems.csv.

    Args:
        source: Any layout, a DICOM study, an archive.
        output: The folder of the prepared dataset.
        config: All other settings. Transforms in ``preprocessing.transforms`` are MONAI's, or those of plugins, which
            ``medseg.plugins.load_plugins`` loads before.
        images: Glob patterns that select files where the layout can't be guessed; several are the channels of a case,
            as in ``["CT=*/CT.nii.gz", "PET=*/PET.nii.gz"]``.
        labels: A glob pattern of the label maps.
        rename: Merges the named segments of DICOM SEG, RTSTRUCT and .seg.nrrd into labels, as in
            ``{"GTV*": "tumour", "external": ""}``.
        spacing: Of the voxels in mm, in array-axis order, where headers don't say it: of all cases but those to which a
            cases.csv gives one in its column. It is kept with each case, so that ``train`` and ``evaluate`` know it
            too; files keep their headers, and so do masks.
        instances: The names of labels whose objects are told apart, as in ``"nucleus"``; dataset.json may name them
            too. Where it is the only label, values of label maps number its objects; each segment and each file of a
            mask is an object; else the object maps in a folder ``objects`` are read, or connected components taken.

    Returns:
        What was made, and what was left out.

    Raises:
        SourceError: No case is left.
        ConfigError: A pattern or a name fits nothing, or a transform is not known.
        OutputError: ``output`` holds a dataset of the user's own.
    """
    config = config or Config()
    settings = config.preprocessing
    check_transforms(settings.transforms)
    selection = CaseSelection(images, labels, rename=rename, instances=as_names(instances))
    found = with_spacing(cases_in(Listing(Path(source)), selection), spacing)
    if found.labels is not None:
        found = replace(found, labels=found.labels.ignoring(settings.ignore_value))
    folder = begin_folder(Path(output), Path(source))
    problems = list(found.problems)
    tell_found(source, found)
    fix = partial(filled_in, source=Path(source), selection=selection)
    checked = check_cases(found, folder, settings, problems, fix)
    agreed = agree(checked, found, settings.ignore_value, problems, fix)
    tell_checked(agreed.cases, agreed.channels, agreed.labels)
    warnings = image_warnings(agreed.cases)
    tell_warnings(warnings, f"'medseg inspect {shlex.quote(str(source))}'")
    plans = None
    if agreed.labels is not None and agreed.cases:
        agreed, plans, doubtful = _plan_and_store(agreed, agreed.labels, folder, config, problems)
        warnings += doubtful
    listed = write_problems(folder, problems)
    if not agreed.cases:
        raise SourceError(f"{source}: no case is left to prepare; {listed} says why for each")
    record = dataset_record(folder, Path(source), found.layout, agreed)
    write_dataset(folder, record)
    doubted = tuple(each.problem for each in warnings if not each.is_note)
    return PreprocessResult(folder, record, plans, tuple(problems), doubted)


def _plan_and_store(
    agreed: AgreedCases, labels: Labels, folder: Path, config: Config, problems: list[Problem]
) -> tuple[AgreedCases, Plans, list[CaseWarning]]:
    """Plans, brings all cases to the model grid and stores them.

    Returns:
        The cases that were stored, the plans, and what was found doubtful on the way.
    """
    measured = fingerprint([item.measures for item in agreed.cases])
    plans = derive_plans(measured, agreed.channels, config)
    grid = plans.plan_2d.grid
    stored = store_cases(agreed.cases, folder, grid, labels, config.preprocessing, problems)
    usual, odd = compare_values(stored, grid.normalization, agreed.channels)
    lost = lost_labels(stored, labels, grid)
    tell_warnings([*odd, *lost], "--json")
    tell_finest_spacing(stored, grid)
    write_fingerprint(folder, measured.model_copy(update={"usual_values": usual}))
    write_plans(folder, plans)
    return agreed._replace(cases=stored), plans, [*odd, *lost]
