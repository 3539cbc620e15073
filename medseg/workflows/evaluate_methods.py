"""Several predictions against the same references: evaluate each, compare case by case, write comparison.json
and report.html."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import Problem, SourceError
from medseg.evaluation.comparison_json import MethodComparison, MethodComparisonRecord, write_method_comparison
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.method_comparison import DEFINITIONS, compare_methods
from medseg.files import ensure_folder
from medseg.io.folders import is_hidden
from medseg.progress import say
from medseg.report.evaluation import REPORT_FILE
from medseg.report.method_comparison import write_comparison


@dataclass(frozen=True)
class EvaluatedMethods:
    """An evaluation of several predictions: of each method its folders and evaluations, one for each seed."""

    comparison: MethodComparison
    predictions: dict[str, list[Path]]
    evaluations: dict[str, list[Evaluation]]
    problems: tuple[Problem, ...]

    @property
    def n_failed(self) -> int:
        """The number of predictions that cannot be used, of all methods."""
        return sum(len(each.failed) for of_seeds in self.evaluations.values() for each in of_seeds)

    def as_record(self) -> MethodComparisonRecord:
        """Returns the content of comparison.json."""
        return MethodComparisonRecord(
            definitions=DEFINITIONS,
            predictions={name: [str(path) for path in paths] for name, paths in self.predictions.items()},
            **dict(self.comparison),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the content of comparison.json, as JSON has it."""
        return self.as_record().as_json()


def evaluate_methods(
    predictions: Sequence[str | Path], output: Path | None, evaluate: Callable[[Path, Path | None], Evaluation]
) -> EvaluatedMethods:
    """Evaluates several predictions against the same references, and compares them.

    Args:
        predictions: Folders or files of masks.
        output: The folder for comparison.json and report.html, and for a folder of each prediction.
        evaluate: Measures one folder and writes its metrics into another.

    Raises:
        SourceError: There are less than two predictions, or no case that all of them have.
    """
    methods = find_methods([Path(each) for each in predictions])
    if sum(map(len, methods.values())) < 2:
        raise SourceError(
            f"{predictions[0]}: one prediction cannot be compared; name a second one, or a folder of seeds"
        )
    folder = None if output is None else ensure_folder(output)
    evaluations: dict[str, list[Evaluation]] = {name: [] for name in methods}
    for name, paths in methods.items():
        for path in paths:
            run = name if len(paths) == 1 else f"{name}/{path.name}"
            say(f"{run}:")
            evaluations[name].append(evaluate(path, None if folder is None else folder / run))
    comparison = compare_methods({name: [each.records for each in of_seeds] for name, of_seeds in evaluations.items()})
    if not comparison.cases:
        raise SourceError(
            f"no case was measured in all of {', '.join(methods)}; are these predictions of one test set?"
        )
    problems = [problem for of_seeds in evaluations.values() for each in of_seeds for problem in each.problems]
    compared = EvaluatedMethods(comparison, methods, evaluations, tuple(problems))
    if folder is not None:
        write_method_comparison(folder, compared.as_record())
        write_comparison(comparison, evaluations, folder / REPORT_FILE)
    return compared


def find_methods(predictions: Sequence[Path]) -> dict[str, list[Path]]:
    """Returns the folders of each method, by the shortest end of its path that no other has.

    A folder that holds nothing but folders is a method with several seeds: METHOD/SEED.
    """
    paths = [path.resolve() for path in predictions]
    if len(set(paths)) < len(paths):
        raise SourceError(f"{', '.join(map(str, predictions))}: one of them is named twice")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {"/".join(path.parts[-depth:]): _seeds(path) for path in paths}


def _seeds(path: Path) -> list[Path]:
    inside = sorted(each for each in path.iterdir() if not is_hidden(each.name)) if path.is_dir() else []
    return inside if inside and all(each.is_dir() for each in inside) else [path]
