"""What makes one dataset of cases: as many channels in each, and the same labels."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from medseg.dataset.cases import CaseList
from medseg.dataset.channel_order import told_of_channels, usual_number
from medseg.dataset.grid_mismatch import FIX
from medseg.dataset.label_values import rare_value_warning, rare_values, stray_values
from medseg.errors import LabelError, Problem
from medseg.labels import MANY_LABELS, Labels
from medseg.preparation.checked_case import Checked, leave_out
from medseg.progress import counted, listed, warn
from medseg.structures import check_annotated

VALUES_SHOWN = 8


class AgreedCases(NamedTuple):
    """The cases that agree, and the names of what they have in common; no labels without label maps."""

    cases: list[Checked]
    channels: tuple[str, ...]
    labels: Labels | None


def agree(
    checked: Sequence[Checked],
    found: CaseList,
    ignore: int | None,
    problems: list[Problem],
    fix: Callable[[str], str],
) -> AgreedCases:
    """Returns the cases that make one dataset.

    Args:
        checked: The cases that can be read.
        found: All cases, with what the layout names.
        ignore: The value of voxels that nobody annotated.
        problems: The other cases are added to these.
        fix: Completes messages with the command that puts things right.
    """
    cases, channels = _same_channels(checked, found.channels, problems)
    if found.labels is None:
        cases = _without_strays(cases, problems, fix)
        _tell_rare(cases)
    labels = _labels(found, cases, ignore)
    cases = _with_known_labels(cases, labels, problems)
    drawn = {value for item in cases for value in item.measures.voxels}
    absent = labels.absent(drawn) if labels is not None and cases else ""
    if absent:
        warn(absent)
    return AgreedCases(cases, channels, labels)


def _same_channels(
    checked: Sequence[Checked], names: tuple[str, ...], problems: list[Problem]
) -> tuple[list[Checked], tuple[str, ...]]:
    """Returns the cases with the number of channels that most have, and the channels' names."""
    if not checked:
        return [], names
    usual = usual_number([len(item.measures.intensities) for item in checked], names)
    kept = []
    for item in checked:
        n_channels = len(item.measures.intensities)
        if n_channels == usual:
            kept.append(item)
            continue
        message = f"{item.case.images[0].path}: number of channels is {n_channels}, most cases have {usual}; left out"
        leave_out(Problem(item.case_id, item.case.images[0].path, message), problems)
    if len(names) == usual:
        return kept, names
    if len(names) > 1:
        warn(told_of_channels(names, usual))
    return kept, tuple(f"{names[0] if names else 'channel'}_{i}" for i in range(usual))


def _without_strays(checked: Sequence[Checked], problems: list[Problem], fix: Callable[[str], str]) -> list[Checked]:
    """Returns the cases whose label maps hold no stray values; the others become problems."""
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
        leave_out(Problem(item.case_id, item.case.label.path, fix(message)), problems)
    return kept


def _some_values(voxels: Mapping[int, int]) -> str:
    """Returns the most frequent values in words."""
    most = sorted(voxels.items(), key=lambda pair: -pair[1])
    return listed((f"{value} ({counted(n, 'voxel')})" for value, n in most), VALUES_SHOWN)


def _tell_rare(checked: Sequence[Checked]) -> None:
    for value, most in sorted(rare_values([item.measures.voxels for item in checked]).items()):
        what, to_do = rare_value_warning(value, most)
        warn(f"{what[:1].upper()}{what[1:]}; {to_do}")


def _labels(found: CaseList, checked: Sequence[Checked], ignore: int | None) -> Labels | None:
    """Returns the labels that the layout names, else one for each value that occurs; None without label maps."""
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
            "is just the number of an object (a cell, a lesion), say --instances and what the objects are; where each "
            "is a structure, name them in a dataset.json"
        )
    return Labels.from_values(values, ignore)


def _with_known_labels(checked: Sequence[Checked], labels: Labels | None, problems: list[Problem]) -> list[Checked]:
    """Returns the cases that say of known labels only that they were annotated; the others become problems."""
    kept = []
    for item in checked:
        try:
            if labels is not None:
                check_annotated(item.case.annotated, labels.names)
            kept.append(item)
        except LabelError as error:
            path = item.drawn_path
            leave_out(Problem(item.case_id, path, f"{path}: {error}; left out"), problems)
    return kept
