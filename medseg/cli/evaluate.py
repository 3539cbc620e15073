"""medseg evaluate."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from medseg.cli.choosing import Cluster, IgnoreValue, Instances, Rename, renames, workers_of
from medseg.cli.clicks import Start, clicked
from medseg.cli.json_output import print_json
from medseg.cli.method_comparison import show_comparison
from medseg.cli.status import tell_by_status
from medseg.errors import ConfigError
from medseg.progress import counted, say

if TYPE_CHECKING:
    from medseg.evaluation.evaluation import Evaluation
    from medseg.evaluation.summary import Average
    from medseg.workflows.evaluate_methods import EvaluatedMethods

WORST_SHOWN = 5


class Failed(StrEnum):
    """What a case counts as whose prediction cannot be used."""

    MISSED = "missed"
    LEFT_OUT = "left-out"


# Columns of the table, the first few that were measured; the files have all metrics.
SHOWN = {
    "dice": "Dice",
    "hd95_mm": "HD95\nmm",
    "surface_dice": "surface\nDice",
    "lesion_f1": "lesion\nF1",
    "object_ap_50": "AP\n50",
    "object_ap": "AP\nmean",
    "centreline_dice": "clDice",
    "panoptic_quality": "panoptic\nquality",
    "rand_score": "Rand\nscore",
    "information_score": "info\nscore",
}
# Of average precisions, by the IoU of a match.
POOLED = {**{f"object_ap_{iou}": f"@.{iou // 10}" for iou in (50, 60, 70, 80, 90)}, "object_ap": "mean"}
MOST_COLUMNS = 4  # in 80 characters


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Masks that were predicted: a folder, or one file (NIfTI, NRRD, PNG, TIFF, DICOM SEG, RTSTRUCT). "
            "Several are compared; a folder of nothing but folders is one method trained with several seeds. With "
            "--clicks the run of a model that answers to prompts."
        ),
    ],
    references: Annotated[
        Path,
        typer.Argument(
            help="Masks that they should be like: a folder with the same file names, one file, a "
            "dataset with images and label maps, a DICOM study with SEG or RTSTRUCT, or a folder that "
            "'medseg preprocess' made."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for metrics.json, metrics.csv and report.html; of several predictions, for comparison.json, "
            "a report.html that compares them, and a folder of each. With --clicks for clicks.json and report.html.",
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Metrics or groups, with commas: overlap, surface, lesions, objects, centreline, rand, dice, …"
        ),
    ] = "overlap,surface",
    tolerance_mm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[LABEL=]MM",
            help="Surfaces this close count as the same in the surface Dice (default: 1); of one label: liver=2.",
        ),
    ] = None,
    lesion_iou: Annotated[float, typer.Option(min=0, max=1, help="Lesions match when their IoU is above this.")] = 0.5,
    grid_tolerance: Annotated[
        float,
        typer.Option(min=0, max=1, help="Grids are one when they are this close, as part of the smallest voxel edge."),
    ] = 0.05,
    case: Annotated[
        list[str] | None, typer.Option(help="Only this case, by the name of its files; give it again for more cases.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cases measured at the same time; one per core if not given.")
    ] = None,
    cluster: Cluster = None,
    rename: Rename = None,
    instances: Instances = None,
    ignore_value: IgnoreValue = None,
    failed: Annotated[
        Failed,
        typer.Option(
            help="What a case counts as whose prediction is missing, cannot be read or lies on another grid: all "
            "labels of its reference are missed, or it is left out."
        ),
    ] = Failed.MISSED,
    clicks: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Evaluate a model by a simulated user, who clicks in the largest error up to N times; PREDICTIONS is "
            "its run, REFERENCES a dataset.",
        ),
    ] = None,
    start: Annotated[
        Start, typer.Option(help="With --clicks: what labels of the model begin with; all others with nothing.")
    ] = Start.AUTOMATIC,
    against: Annotated[
        list[str] | None,
        typer.Option(help="With --clicks: another method on the same clicks, 'random walker' or 'graph cut'."),
    ] = None,
    structure: Annotated[
        list[str] | None, typer.Option(help="With --clicks: only this label or region of the references.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of metrics.json, no table.")] = False,
) -> None:
    """Compares masks with references: overlap, volumes and surface distances per case and label; lesions, centre lines
    and Rand scores if asked for.

    Several predictions are ranked, and compared case by case by Wilcoxon's test.

    Files are paired by name. Flipped axes are no difference. A label that only one of the two masks has scores 0, and
    is counted as missed or as a false alarm; one that neither has is not scored. A prediction that is missing, cannot
    be read or lies on another grid counts as empty (--failed); values that are no label's count as background, and are
    told.

    Probabilities that 'medseg predict --save-probabilities' wrote beside the masks are found, and their calibration
    is reported.

    Example:

        medseg evaluate masks dataset/labelsTr -o metrics

        medseg evaluate masks dataset/labelsTr --metrics overlap,lesions

        medseg evaluate masks dataset/labelsTr --tolerance-mm 1 --tolerance-mm liver=2

        medseg evaluate unet residual-unet dataset/labelsTr -o compared

        medseg evaluate run dataset --clicks 10 -o clicked
    """
    if clicks is not None:
        tolerance = tolerances(tolerance_mm or []).get("*", 1.0)
        options = {"clicks": clicks, "start": start.value, "methods": against or (), "structures": structure}
        clicked(predictions, references, output, {**options, "cases": case, "tolerance_mm": tolerance}, as_json)
        return
    from medseg.workflows.evaluate import evaluate as run

    with workers_of(cluster) as executor:
        evaluation = run(
            predictions if len(predictions) > 1 else predictions[0],
            references,
            output,
            metrics=[name.strip() for name in metrics.split(",")],
            tolerance_mm=tolerances(tolerance_mm or []),
            lesion_iou=lesion_iou,
            cases=case,
            grid_tolerance=grid_tolerance,
            workers=workers,
            rename=renames(rename),
            ignore_value=ignore_value,
            instances=instances or (),
            failed=failed.value,
            executor=executor,
        )
    _tell(evaluation, output, as_json)


def _tell(evaluation: "Evaluation | EvaluatedMethods", output: Path | None, as_json: bool) -> None:
    """Prints what was measured, which files were written, and what became of cases with problems."""
    from medseg.workflows.evaluate_methods import EvaluatedMethods

    if as_json:
        print_json(evaluation.as_json())
    elif isinstance(evaluation, EvaluatedMethods):
        show_comparison(evaluation.comparison, SHOWN)
    elif evaluation.records:
        show(evaluation)
    if output is not None:
        of_several = isinstance(evaluation, EvaluatedMethods)
        names = ["comparison.json"] if of_several else ["metrics.json", "metrics.csv"]
        names.append("report.html")
        say(f"Written: {', '.join(str(output / name) for name in names)}")
    if evaluation.problems:
        say(_summed_up(evaluation))
        tell_by_status([problem.is_defect for problem in evaluation.problems])


def _summed_up(evaluation: "Evaluation | EvaluatedMethods") -> str:
    """Returns what became of the cases with problems, in a line."""
    n_failed = evaluation.n_failed
    others = len(evaluation.problems) - n_failed
    parts = [f"{counted(n_failed, 'prediction')} that cannot be used, counted as missed"] if n_failed else []
    parts += [f"{counted(others, 'file')} could not be evaluated"] if others else []
    return "; ".join(parts)


def tolerances(options: list[str]) -> dict[str, float]:
    """Returns millimetres by label, ``*`` for all others.

    Raises:
        ConfigError: An option is wrong.
    """
    found = {}
    for option in options:
        label, _, number = option.rpartition("=")
        try:
            found[label.strip() or "*"] = float(number)
        except ValueError as error:
            raise ConfigError(f"--tolerance-mm '{option}': write it as 2, or as LABEL=2") from error
        if not float(number) >= 0:
            raise ConfigError(f"--tolerance-mm '{option}': a distance in mm, 0 or more")
    return found


def show(evaluation: "Evaluation") -> None:
    """Prints the table of labels, and the cases with the lowest Dice."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    measures = evaluation.measures
    known = [name for name in SHOWN if name in measures.metrics] or list(measures.metrics)
    shown, first = known[:MOST_COLUMNS], known[0]
    caption = f"means over the cases, and the 95 % bootstrap interval of {first}"
    if "surface_dice" in shown:
        tolerances = sorted({measures.tolerance_of(label) for label in evaluation.summary.labels})
        caption += f"; surface Dice at {', '.join(f'{mm:g}' for mm in tolerances)} mm"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), caption=caption, caption_justify="left")
    table.add_column("label", overflow="fold", min_width=8)
    for name in ("cases", first, "95 %\ninterval", *shown[1:], "missed", "false\nalarms"):
        table.add_column(SHOWN.get(name, name.replace("_", "\n")), justify="right", no_wrap=True)
    summary = evaluation.summary
    for name, label in summary.labels.items():
        counts = (label.statuses["missed"], label.statuses["false_alarm"])
        table.add_row(escape(name), str(label.cases), *_cells(label.metrics, shown), *map(str, counts))
    for value, n in sorted(Counter(value for each in evaluation.unknown.values() for value in each).items()):
        table.add_row(f"(value {value}, no label)", "", *["–"] * (len(shown) + 1), "", str(n), style="dim")
    if len(summary.labels) > 1:
        table.add_section()
        table.add_row("mean", "", *_cells(summary.over_labels, shown), "", "", style="bold")
    console = Console(highlight=False)
    console.print(table)
    for name, label in summary.labels.items():
        if label.pooled:
            precisions = ", ".join(f"{POOLED[metric]} {value:.3f}" for metric, value in label.pooled.items())
            console.print(f"Average precision of the objects of all cases together, {name}: {precisions}", markup=False)
    measured = [record for record in evaluation.records if record.values.get("dice") is not None]
    if len(measured) > WORST_SHOWN:
        console.print("Lowest Dice:")
        for record in sorted(measured, key=lambda record: record.values["dice"] or 0.0)[:WORST_SHOWN]:
            status = "" if record.status == "found" else f" ({record.status.replace('_', ' ')})"
            console.print(f"  {record.values['dice']:.3f}  {record.case_id}, {record.label}{status}", markup=False)


def _cells(averages: "Mapping[str, Average]", shown: list[str]) -> list[str]:
    means = [_number(averages[name].mean) for name in shown]
    interval = averages[shown[0]].interval
    return [means[0], "–" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}", *means[1:]]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
