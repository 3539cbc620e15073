"""preprocess: find cases, check and measure each, plan, bring each to the model grid, store."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.config import Config
from medseg.dataset.cases import Problem
from medseg.dataset.grid_mismatch import filled_in
from medseg.dataset.layouts import find_cases
from medseg.dataset.prepared_json import DatasetRecord
from medseg.dataset.spacing import with_spacing
from medseg.errors import SourceError
from medseg.labels import Labels
from medseg.plan import Plans
from medseg.planning.derive import derive_plans
from medseg.planning.measure import fingerprint
from medseg.preparation.agreement import Agreement, agree
from medseg.preparation.case_warnings import (
    CaseWarning,
    compare_values,
    header_warnings,
    lost_labels,
    tell_finest_spacing,
    tell_warnings,
)
from medseg.preparation.checked_case import check_cases, store_cases
from medseg.preparation.notes import tell_checked, tell_found
from medseg.preparation.prepared_folder import begin_folder, write_dataset, write_plans
from medseg.problems import write_problems


@dataclass(frozen=True)
class PreprocessResult:
    """What ``preprocess`` made, and what it left out. ``plans`` is None where there were no labels."""

    folder: Path
    record: DatasetRecord
    plans: Plans | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()  # what is doubtful in cases that were taken


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
    settings = config.preprocessing
    found = with_spacing(find_cases(Path(source), images=images, labels=labels, rename=rename), spacing)
    if found.labels is not None:
        found = replace(found, labels=found.labels.ignoring(settings.ignore_value))
    folder = begin_folder(Path(output), Path(source))
    problems = list(found.problems)
    tell_found(source, found)
    fix = partial(filled_in, source=Path(source), images=images, labels=labels, rename=rename)
    checked = check_cases(found, folder, settings, problems, fix)
    agreed = agree(checked, found, settings.ignore_value, problems, fix)
    tell_checked(agreed.cases, agreed.channels)
    warnings = header_warnings(agreed.cases)
    tell_warnings(warnings, f"'medseg inspect {shlex.quote(str(source))}'")
    plans = None
    if agreed.labels is not None and agreed.cases:
        agreed, plans, doubtful = _plan_and_store(agreed, agreed.labels, folder, config, problems)
        warnings += doubtful
    listed = write_problems(folder, problems)
    if not agreed.cases:
        raise SourceError(f"{source}: no case is left to prepare; {listed} says why for each")
    record = write_dataset(folder, Path(source), found.layout, agreed)
    doubted = tuple(each.problem for each in warnings if not each.is_note)
    return PreprocessResult(folder, record, plans, tuple(problems), doubted)


def _plan_and_store(
    agreed: Agreement, labels: Labels, folder: Path, config: Config, problems: list[Problem]
) -> tuple[Agreement, Plans, list[CaseWarning]]:
    """Plans, brings all cases to the model grid and stores them: the cases that were stored, the plans, and what was
    found doubtful on the way."""
    measured = fingerprint([item.measures for item in agreed.cases])
    plans = derive_plans(measured, agreed.channels, config)
    grid = plans.plan_2d.grid
    stored = store_cases(agreed.cases, folder, grid, labels, config.preprocessing, problems)
    usual, odd = compare_values(stored, grid.normalization, agreed.channels)
    lost = lost_labels(stored, labels, grid)
    tell_warnings([*odd, *lost], "--json")
    tell_finest_spacing(stored, grid)
    write_plans(folder, measured.model_copy(update={"usual_values": usual}), plans)
    return agreed._replace(cases=stored), plans, [*odd, *lost]
