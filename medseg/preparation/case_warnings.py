"""What is doubtful about cases that are taken all the same, and how it is told."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from medseg.dataset.image_warnings import copies_among
from medseg.errors import Problem
from medseg.fingerprint import UsualValues
from medseg.labels import Labels
from medseg.plan import Grid, Normalization
from medseg.preparation.checked_case import Checked
from medseg.progress import counted, listed, warn
from medseg.transforms.intensities import unlike_the_others, usual_values
from medseg.transforms.lost_labels import spacing_to_keep

ALIKE_TOLD = 3


class CaseWarning(NamedTuple):
    """What is doubtful about one case. ``rule`` names the kind, as findings of ``inspect`` have it."""

    rule: str
    problem: Problem
    is_note: bool = False  # what was made of it is right as far as medseg knows


def image_warnings(checked: Sequence[Checked]) -> list[CaseWarning]:
    """Returns what the headers of the images let doubt, and copies among them."""
    doubts = [(doubt, item.case) for item in checked for doubt in item.doubts]
    doubts += copies_among(item.case for item in checked)
    return [
        CaseWarning(doubt.rule, Problem(case.case_id, doubt.path, f"{doubt.path}: {doubt}"), doubt.severity == "note")
        for doubt, case in doubts
    ]


def compare_values(
    checked: Sequence[Checked], rules: Sequence[Normalization], channels: Sequence[str]
) -> tuple[tuple[UsualValues, ...], list[CaseWarning]]:
    """Returns what values are usual, by channel, and the cases whose values are odd.

    These are not counted for what is usual; nothing is usual where a channel is odd in all of them.
    """
    cases = sorted(checked, key=lambda item: item.case_id)
    usual, warnings = [], list[CaseWarning]()
    for i, (rule, channel) in enumerate(zip(rules, channels, strict=True)):
        flat_or_clipped = {item.case_id: item.oddities[i] for item in cases if i in item.oddities}
        ordinary = [item for item in cases if item.case_id not in flat_or_clipped]
        unlike = unlike_the_others([item.profiles[i] for item in ordinary], rule)
        odd = flat_or_clipped | {ordinary[at].case_id: what for at, what in unlike.items()}
        if len(odd) < len(cases):
            usual.append(usual_values([item.profiles[i] for item in cases if item.case_id not in odd], rule))
        told = [(item, f"{channel}: {odd[item.case_id]}") for item in cases if item.case_id in odd]
        warnings += [
            CaseWarning("odd-values", Problem(item.case_id, item.case.images[0].path, what)) for item, what in told
        ]
    return tuple(usual) if len(usual) == len(channels) else (), warnings


def lost_labels(checked: Sequence[Checked], labels: Labels, grid: Grid) -> list[CaseWarning]:
    """Returns what of label maps is gone on the model grid, by case, and what keeps it."""
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
            warnings.append(CaseWarning("vanished", Problem(item.case_id, item.drawn_path, what)))
        for gone in item.vanished_objects:
            name, ml = labels.names[labels.values.index(gone.label)], gone.voxels * source_grid.voxel_volume_ml
            what = (
                f"{name}: {len(gone.names)} of {counted(gone.n_objects, 'object')} ({listed(gone.names)}; "
                f"{counted(gone.voxels, 'voxel')}, {ml:.2g} ml) are gone on the model grid; --set "
                f"preprocessing.spacing={own}, the spacing of this case, keeps them"
            )
            warnings.append(CaseWarning("vanished", Problem(item.case_id, item.drawn_path, what)))
    return warnings


def tell_finest_spacing(checked: Sequence[Checked], grid: Grid) -> None:
    """Tells the spacing with which nothing is gone, where something of labels is."""
    cases = [item for item in checked if item.vanished_objects or any(not each.cropped for each in item.vanished)]
    spacings = [spacing_to_keep(item.measures.source_grid, grid.orientation) for item in cases]
    if spacings:
        finest = _list([min(along) for along in zip(*spacings, strict=True)])
        warn(
            f"Labels or components of them are gone on the model grid of {_list(grid.spacing)} mm in "
            f"{counted(len(cases), 'case')}; --set preprocessing.spacing={finest} is as fine as the finest of these"
        )


def _list(spacing: Iterable[float]) -> str:
    """Returns a spacing as ``--set`` takes it."""
    return f"[{','.join(f'{edge:g}' for edge in spacing)}]"


def tell_warnings(warnings: Sequence[CaseWarning], tells_all: str) -> None:
    """Tells a few of each kind. ``tells_all``: what tells all."""
    for rule in dict.fromkeys(warning.rule for warning in warnings):
        alike = [warning.problem for warning in warnings if warning.rule == rule]
        for problem in alike[:ALIKE_TOLD]:
            warn(str(problem))
        if len(alike) > ALIKE_TOLD:
            more = counted(len(alike) - ALIKE_TOLD, "more case")
            warn(f"… and the same of {more}; {tells_all} tells all")
