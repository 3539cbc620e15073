"""evaluate --clicks: a simulated user segments the cases of a dataset click by click; how good the masks become."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case, CaseList
from medseg.dataset.layouts import find_cases
from medseg.errors import ConfigError, MedsegError, Problem, SourceError
from medseg.evaluation.clicks_json import ClickedObject, ClicksRecord, summarise_clicks, write_clicks
from medseg.files import ensure_folder
from medseg.interactive.click_evaluation import ClickProtocol, Start, click_case
from medseg.interactive.error_clicks import JITTER_VOXELS
from medseg.interactive.object_predictor import load_promptable
from medseg.labels import Labels
from medseg.problems import missing_cases, problem_records
from medseg.progress import counted, say, track, warn
from medseg.report.clicks import write_click_report
from medseg.report.evaluation import REPORT_FILE
from medseg.training.run_record import runs_of


def evaluate_clicks(
    model: str | Path,
    references: str | Path,
    output: str | Path | None = None,
    *,
    clicks: int = 10,
    start: Start = "automatic",
    methods: Sequence[str] = (),
    structures: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    tolerance_mm: float = 1.0,
    jitter: float = JITTER_VOXELS,
    seed: int = 0,
    device: str = "auto",
    backend: str = "auto",
) -> ClicksRecord:
    """Evaluates a model that answers to prompts: a simulated user clicks in the largest error, again and again.

    Each structure of each case is an object of its own. What the words mean stands in the record.

    Args:
        model: A RUN or a model folder of ``medseg train --prompts``. Cases that the RUN was trained on are left out.
        references: A dataset of images and label maps, in any layout, or a prepared folder.
        output: A folder for clicks.json and report.html.
        clicks: How many the user sets at most.
        start: What structures that are labels of the model begin with: their "automatic" mask, or "nothing" as others.
        methods: What segments from the same clicks, to compare with: "random walker", "graph cut".
        structures: Names of labels and regions of the references; None: all.
        cases: The case ids to evaluate; None: all.
        tolerance_mm: Of the surface Dice.
        jitter: How far clicks fall from where they are meant: a standard deviation, in voxels.
        seed: Of the jitter.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        backend: What runs the network, as in ``predict``.

    Returns:
        The content of clicks.json.

    Raises:
        ModelError: The model cannot be used, or answers to no prompts.
        SourceError: No case could be evaluated.
        ConfigError: An argument cannot be used.
    """
    protocol = ClickProtocol(clicks, start, jitter, seed, tolerance_mm, tuple(methods))
    folder = None if output is None else ensure_folder(Path(output))
    loaded = load_promptable(model, device, backend)
    found = find_cases(Path(references), labelled=True)
    if cases is None:
        chosen, problems = _not_learnt(found, Path(model), Path(references)), list(found.problems)
    else:
        chosen, problems = _named(found, cases, Path(references))
    labels = found.labels or loaded.record.labels
    wanted = _structures(labels, structures)
    objects = list[ClickedObject]()
    for case in track(chosen, "Clicking", len(chosen)):
        try:
            objects += click_case(case, loaded, labels, wanted, protocol)
        except MedsegError as error:
            problems.append(Problem(case.case_id, case.images[0].path, str(error)))
            warn(str(problems[-1]))
    if not objects:
        reason = f"; {problems[0]}" if problems else ""
        raise SourceError(f"{references}: no object could be clicked{reason}")
    seconds = [each for clicked in objects for each in clicked.seconds]
    record = ClicksRecord(
        model=str(loaded.folder.resolve()),
        fingerprint=loaded.fingerprint,
        references=str(Path(references).resolve()),
        clicks=clicks,
        counts=protocol.counts,
        start=start,
        jitter=jitter,
        seed=seed,
        tolerance_mm=tolerance_mm,
        seconds_per_answer=float(np.median(seconds)) if seconds else None,
        summary=summarise_clicks(objects, clicks),
        objects=tuple(objects),
        problems=problem_records(problems),
    )
    if folder is not None:
        write_clicks(folder, record)
        write_click_report(record, labels, folder / REPORT_FILE)
    return record


def _not_learnt(found: CaseList, run: Path, references: Path) -> list[Case]:
    """Returns the cases that a run has not learnt from.

    Raises:
        SourceError: It has learnt from all of them.
    """
    learnt = {case_id for each in runs_of(run) for case_id in each.training}
    chosen = [case for case in found.cases if case.case_id not in learnt]
    if found.cases and not chosen:
        raise SourceError(f"{references}: {run} was trained on every case; name those to evaluate anyway by --case")
    if len(chosen) < len(found.cases):
        left_out = counted(len(found.cases) - len(chosen), "case")
        say(f"Left out, since the model was trained on them: {left_out}")
    return chosen


def _named(found: CaseList, names: Sequence[str], references: Path) -> tuple[list[Case], list[Problem]]:
    """Returns the cases of these names, and what is wrong with those that are none."""
    known = {case.case_id for case in found.cases} | {problem.case_id for problem in found.problems}
    problems = [problem for problem in found.problems if problem.case_id in names]
    chosen = [case for case in found.cases if case.case_id in names]
    return chosen, problems + missing_cases(names, known, references)


def _structures(labels: Labels, names: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Returns the values of each structure to click, by its name."""
    known = {each.name: each.values for each in labels.structures}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(f"structures: '{unknown[0]}' is none of {', '.join(known)}")
    return known if names is None else {name: known[name] for name in names}
