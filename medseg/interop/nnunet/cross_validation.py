"""What nnU-Net measured and chose on the cases that it held back: Dice by label, and postprocessing."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.interop.nnunet.trained_folder import TrainedFolder
from medseg.labels import Labels
from medseg.postprocessing.components import Rule
from medseg.progress import warn
from medseg.records import read_object, shown_value

LARGEST_COMPONENT = "remove_all_but_largest_component_from_segmentation"


def postprocessing_of(trained: TrainedFolder, folds: Sequence[str], labels: Labels) -> tuple[Rule, ...]:
    """Returns the rules that were chosen on the validation cases of these folds; () where none were."""
    content = _read(_results(trained, folds) / "postprocessing.json")
    functions, arguments = (content.get(f"postprocessing_{what}") for what in ("fns", "kwargs"))
    if not isinstance(functions, list) or not isinstance(arguments, list) or len(functions) != len(arguments):
        return ()
    cases = trained.dataset.get("numTraining")
    rules = []
    for function, given in zip(functions, arguments, strict=True):
        values = given.get("labels_or_regions") if isinstance(given, dict) else None
        names = _names(values, labels)
        if function != LARGEST_COMPONENT or not names:
            is_known = function == LARGEST_COMPONENT
            why = f"the model has no labels {shown_value(values)}" if is_known else "medseg does not know it"
            warn(f"Postprocessing by '{str(function)[:80]}' is left out: {why}")
            continue
        chosen_on = cases if isinstance(cases, int) and cases > 0 else None
        rules.append(Rule(label=names[0], together=names[1:], largest_component=True, chosen_on=chosen_on))
    return tuple(rules)


def dice_of(trained: TrainedFolder, folds: Sequence[str], labels: Labels) -> dict[str, float]:
    """Returns the mean Dice of each label or region over the validation cases of these folds; {} where nothing says."""
    content = _read(_results(trained, folds) / "summary.json")
    if not content and len(folds) == 1:
        content = _read(trained.path / f"fold_{folds[0]}" / "validation" / "summary.json")
    means = content.get("mean")
    unions = {frozenset(values): name for name, values in labels.unions.items()}
    network = {value: i for i, value in enumerate(labels.values, start=1)}
    found = {}
    for key, metrics in (means if isinstance(means, dict) else {}).items():
        values = frozenset(network.get(int(number), 0) for number in re.findall(r"\d{1,9}", key))
        dice = metrics.get("Dice") if isinstance(metrics, dict) else None
        if values in unions and isinstance(dice, int | float):
            found[unions[values]] = float(dice)
    return found


def _results(trained: TrainedFolder, folds: Sequence[str]) -> Path:
    return trained.path / f"crossval_results_folds_{'_'.join(folds)}"


def _names(values: Any, labels: Labels) -> tuple[str, ...]:
    """Returns the names of label values, which stand alone or in lists; () where one is no label's."""
    flat = list(_flat(values))
    known = dict(zip(labels.values, labels.names, strict=True))
    names = [known.get(value) for value in flat]
    return tuple(dict.fromkeys(name for name in names if name is not None)) if None not in names else ()


def _flat(values: Any) -> list[int]:
    if isinstance(values, list):
        return [value for each in values for value in _flat(each)]
    return [values] if isinstance(values, int) else []


def _read(path: Path) -> dict[str, Any]:
    """Returns a JSON file of results; {} where there is none, or it is damaged: the model can do without it."""
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except MedsegError as error:
        warn(f"{error}; left out")
        return {}
