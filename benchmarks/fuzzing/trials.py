"""What medseg is asked of an input of each kind, and what became of it."""

import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fuzzing.judges import JPEG_TOLERANCE, LPS_TO_RAS, SEGMENTS, VOLUMES, Read, Segment, difference
from medseg.errors import MedsegError

# refused: by one clear line. right: as independent readers have it, or, of medseg's own files, used. unjudged: read,
# but by no independent reader. told: other than an independent reader has it, and inspect says what is odd.
# unclear: refused by a message that helps nobody. unsaid: refused, and inspect finds nothing.
Verdict = Literal["refused", "right", "unjudged", "told", "unclear", "unsaid", "differs", "exception", "crash", "hang"]
GOOD: tuple[Verdict, ...] = ("refused", "right", "unjudged", "told")
BAD: tuple[Verdict, ...] = ("unclear", "unsaid", "differs", "exception", "crash", "hang")

LONGEST_MESSAGE = 1500
DEFECT = re.compile(r"a defect of medseg|\.py:\d+\)")  # of an error that medseg did not expect
# The whole chain of commands, for one input in as many.
ALL_COMMANDS_EVERY = 5


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    reason: str = ""
    traceback: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


class Unexpected(Exception):
    """A problem that medseg tells of, and that is a defect of its own."""


def attempt(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """Lets medseg use the input in ``root``, of which ``target`` was changed."""
    try:
        return TRIALS[kind](kind, root, target, number)
    except MedsegError as error:
        return refusal(error, target)
    except Exception as error:
        return Outcome("exception", f"{type(error).__name__}: {error}"[:300], traceback.format_exc())


def refusal(error: MedsegError, target: Path) -> Outcome:
    """Whether the message is one that helps."""
    text = str(error)
    if DEFECT.search(text):
        return Outcome("exception", text[:300], text)
    if len(text) > LONGEST_MESSAGE:
        return Outcome("unclear", f"{len(text)} characters: {text[:200]} …")
    if text.count(str(target)) > 1:
        return Outcome("unclear", f"names the path twice: {text[:400]}")
    return Outcome("refused", text[:300])


def look(root: Path, target: Path) -> tuple[str, ...]:
    """Problems and warnings of inspect, and its notes on the target."""
    from medseg.workflows.inspect import inspect

    try:
        found = inspect(root, voxels=True, workers=1)
    except MedsegError as error:
        return (str(error),)
    _expected(f"{finding.what} {finding.to_do}" for finding in found.findings)
    return tuple(
        finding.what
        for finding in found.findings
        if finding.severity != "note" or target.name in f"{finding.path} {finding.what}"
    )


def _expected(messages: Iterable[str]) -> None:
    for message in messages:
        if DEFECT.search(message):
            raise Unexpected(message)


def image(kind: str, root: Path, target: Path, number: int) -> Outcome:
    from medseg.io.read import read_geometry, read_volume

    alone = kind in ("nifti", "nrrd", "mha", "mhd", "png", "tiff", "jpeg")
    path = target if alone or kind == "dicomdir" else root
    if number % ALL_COMMANDS_EVERY == 0:
        _all_commands(root)
    told = look(path if kind == "dicomdir" else root, target)
    try:
        volume = read_volume(path)
    except MedsegError as error:
        outcome = refusal(error, target)
        return outcome if told or outcome.verdict != "refused" else Outcome("unsaid", f"inspect is silent: {error}")
    ours = Read(volume.array, volume.geometry.affine)
    other = read_geometry(path)
    if other.shape != volume.geometry.shape or not np.array_equal(other.affine, volume.geometry.affine):
        return Outcome("differs", f"from its own header: {other.as_json()} against {volume.geometry.as_json()}")
    agreed = False
    for judge in VOLUMES[kind]:
        try:
            theirs = judge(path)
        except Exception:
            continue
        apart = difference(ours, theirs, JPEG_TOLERANCE if kind == "jpeg" else 0.0)
        if apart:
            reason = f"{judge.__qualname__}: {apart}"
            return Outcome("told" if told else "differs", f"{reason}; {'; '.join(told)}"[:300])
        agreed = True
    return Outcome("right" if agreed else "unjudged")


def segmentation(kind: str, root: Path, target: Path, number: int) -> Outcome:
    from medseg.io.read import read_segmentation, read_volume, segments_of

    told = look(root, target)
    if number % ALL_COMMANDS_EVERY == 0:
        _all_commands(root)
    try:
        series = root / "ct"
        grid = read_volume(series).geometry if series.is_dir() else None
        headers = segments_of(target)
        found = read_segmentation(target, grid)
    except MedsegError as error:
        outcome = refusal(error, target)
        return outcome if told or outcome.verdict != "refused" else Outcome("unsaid", f"inspect is silent: {error}")
    if [h.name for h in headers] != [s.name for s in found.segments]:
        told = (*told, *found.notes)
    try:
        theirs = SEGMENTS[kind](target)
    except Exception:
        return Outcome("unjudged")
    ours = {segment.number: _summary(found, segment) for segment in found.segments}
    apart = _segments_apart(kind, ours, theirs)
    if not apart:
        return Outcome("right")
    return Outcome("told" if told or found.notes else "differs", f"{apart}; {'; '.join((*told, *found.notes))}"[:300])


def _summary(found: Any, segment: Any) -> Segment:
    points = np.argwhere(found.mask(segment))
    places = found.geometry.world(points) @ LPS_TO_RAS[:3, :3]
    return Segment(
        len(points) * found.geometry.voxel_volume_ml * 1000, places.mean(axis=0) if len(points) else np.zeros(3)
    )


def _segments_apart(kind: str, ours: dict[int, Segment], theirs: dict[int, Segment]) -> str | None:
    by_order = kind != "seg"  # others have no numbers of their own that both readers count by
    ours = dict(enumerate(ours.values(), start=1)) if by_order else ours
    theirs = {number: each for number, each in theirs.items() if each.volume_mm3}
    for number, each in theirs.items():
        if number not in ours:
            return f"segment {number} is not there"
        mine, allowed = ours[number], 0.15 if kind == "rtstruct" else 0.001
        if abs(mine.volume_mm3 - each.volume_mm3) > allowed * each.volume_mm3 + (30 if kind == "rtstruct" else 0):
            return f"segment {number}: {mine.volume_mm3:.1f} against {each.volume_mm3:.1f} mm³"
        if np.linalg.norm(mine.centre - each.centre) > (1.5 if kind == "rtstruct" else 0.02):
            return f"segment {number}: {np.linalg.norm(mine.centre - each.centre):.2f} mm apart"
    more = [n for n, each in ours.items() if n not in theirs and each.volume_mm3]
    return f"segments {more} that are not there" if more else None


def _config(root: Path) -> Any:
    from medseg.config import load

    return load(
        overrides=["preprocessing.workers=1", "planning.cpu_base_features=4", "preprocessing.allow_empty_labels=true"]
    )


def _all_commands(root: Path) -> None:
    """preprocess and predict, whatever they say."""
    import medseg

    for command in (
        lambda: medseg.preprocess(root, root.parent / f"{root.name}-prepared", config=_config(root)),
        lambda: medseg.predict(RUN, root, root.parent / f"{root.name}-masks", device="cpu", backend="torch"),
    ):
        try:
            result = command()
        except MedsegError as error:
            _expected([str(error)])
        else:
            _expected(problem.message for problem in result.problems)


RUN = Path()  # set by the pool: a model for images of one channel


def dataset(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """A list of cases: found, looked at, prepared."""
    import medseg
    from medseg.dataset.layouts import find_cases

    source = root if kind == "dataset.json" else target
    look(source, target)
    find_cases(source)
    result = medseg.preprocess(source, root.parent / f"{root.name}-prepared", config=_config(root))
    _expected(problem.message for problem in result.problems)
    return Outcome("right")


def config(kind: str, root: Path, target: Path, number: int) -> Outcome:
    from medseg.config import load

    loaded = load([target])
    target.write_text(loaded.to_yaml(), "utf-8", "surrogatepass")
    if load([target]) != loaded and "nan" not in loaded.to_yaml():
        return Outcome("differs", "written and read again it is another one")
    return Outcome("right")


def prepared(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """A prepared dataset: looked at, planned for, read; sometimes trained on and predicted."""
    import medseg
    from medseg.config import load
    from medseg.dataset.store import PreparedDataset
    from medseg.device import choose_device
    from medseg.training.run import start_runs
    from medseg.training.run_trainer import trainer_of

    look(root / "prepared", target)
    config = load(overrides=["training.epochs=1", "training.steps_per_epoch=1", "planning.cpu_base_features=4"])
    if number % ALL_COMMANDS_EVERY == 0:
        result = medseg.train(root / "prepared", root / "new run", config=config, device="cpu")
        _expected(problem.message for problem in (result.evaluation.problems if result.evaluation else ()))
        medseg.predict(RUN, root / "prepared", root / "new masks", device="cpu", backend="torch")
        return Outcome("right")
    dataset, device = PreparedDataset(root / "prepared"), choose_device("cpu")
    (run,) = start_runs(root / "new run", dataset, None, config, device)
    trainer_of(run, device)[1].batch(0)
    for case_id in dataset.cases:
        dataset.model_grid(case_id), dataset.source_grid(case_id), dataset.is_annotated(case_id)
    return Outcome("right")


def run(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """A run: looked at, plotted, opened; sometimes it goes on to its end."""
    import medseg
    from medseg.config import Config
    from medseg.dataset.store import PreparedDataset
    from medseg.device import choose_device
    from medseg.report.plots import log_points, log_rows
    from medseg.training.run import reopen_runs
    from medseg.training.run_trainer import trainer_of

    _opened(root / "run")
    if kind == "log.csv":
        rows = log_rows(target)
        for column in rows[0]:
            if "dice" in column or "loss" in column:
                log_points(rows, column)
    if number % ALL_COMMANDS_EVERY == 0:
        result = medseg.train(root / "prepared", root / "run", device="cpu", resume=True)
        _expected(problem.message for problem in (result.evaluation.problems if result.evaluation else ()))
        return Outcome("right")
    (reopened,) = reopen_runs(root / "run", PreparedDataset(root / "prepared"), Config())
    trainer_of(reopened, choose_device("cpu"))
    return Outcome("right")


def model(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """A model: predicts, and is packed."""
    import medseg

    image_path = next((root / "data" / "images").iterdir())
    result = medseg.predict(root / "run", image_path, root / "new masks", device="cpu", backend="torch")
    _expected(problem.message for problem in result.problems)
    medseg.package(root / "run", root / "packed.zip")
    return Outcome("right")


def predictions(kind: str, root: Path, target: Path, number: int) -> Outcome:
    """A folder of masks: looked at, evaluated, and predicted again."""
    import medseg

    medseg_calls: tuple[Callable[[], Any], ...] = (
        lambda: [case.load() for case in _opened(root / "masks")],
        lambda: medseg.evaluate(root / "masks", root / "data" / "labels", root / "new metrics", workers=1).problems,
        lambda: medseg.predict(RUN, root / "data" / "images", root / "masks", device="cpu", backend="torch").problems,
    )
    return _each(medseg_calls, target)


def metrics(kind: str, root: Path, target: Path, number: int) -> Outcome:
    return _each((lambda: [case.load() for case in _opened(root / "metrics")],), target)


def _opened(folder: Path) -> Any:
    from medseg.viewer.opening import open_cases

    return open_cases(folder)


def _each(calls: Iterable[Callable[[], Any]], target: Path) -> Outcome:
    """Every call, however the others end."""
    outcome = Outcome("right")
    for call in calls:
        try:
            call()
        except MedsegError as error:
            outcome = refusal(error, target)
            if outcome.verdict != "refused":
                return outcome
    return outcome


Trial = Callable[[str, Path, Path, int], Outcome]
TRIALS: dict[str, Trial] = {
    **dict.fromkeys(VOLUMES, image),
    **dict.fromkeys(SEGMENTS, segmentation),
    **dict.fromkeys(("dataset.json", "cases.csv"), dataset),
    "config": config,
    **dict.fromkeys(("prepared dataset.json", "plan.json", "fingerprint.json", "image.npy"), prepared),
    **dict.fromkeys(("run.json", "log.csv", "checkpoint"), run),
    **dict.fromkeys(("model.json", "weights"), model),
    "predictions.json": predictions,
    "metrics.json": metrics,
}
