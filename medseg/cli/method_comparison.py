"""What 'medseg evaluate' prints of several predictions: a ranking for each metric, and the differences."""

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from medseg.evaluation.comparison_json import Contest, Difference, MethodComparison


def show_comparison(comparison: "MethodComparison", headings: dict[str, str]) -> None:
    """Prints a ranking for each metric, and the differences; all are in comparison.json.

    Args:
        comparison: What was found.
        headings: The metrics to show and how to call them.
    """
    from rich.console import Console

    console = Console(highlight=False)
    for metric in [name for name in headings if name in comparison.metrics] or list(comparison.metrics):
        contest = comparison.metrics[metric].over_labels
        heading = headings.get(metric, metric).replace("\n", " ")
        console.print(_table(contest, f"{heading} ({contest.cases} cases)", comparison.seeds))
        for difference in contest.differences:
            console.print(_sentence(difference), markup=False)
        console.print(f"  all places the same in {contest.order_kept:.0%} of the bootstrap resamples\n", markup=False)


def _table(contest: "Contest", title: str, seeds: dict[str, int]) -> object:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=title, title_justify="left")
    table.add_column("place", justify="right")
    table.add_column("method", overflow="fold")
    for name in ("seeds", "mean", "mean rank", "95 % places", "place kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, standing in sorted(contest.standings.items(), key=lambda item: item[1].place):
        table.add_row(
            f"{standing.place:g}",
            escape(name),
            str(seeds[name]),
            "–" if standing.mean is None else f"{standing.mean:.4f}",
            f"{standing.mean_rank:.2f}",
            "–".join(f"{place:g}" for place in dict.fromkeys(standing.places)),
            f"{standing.kept:.0%}",
        )
    return table


def _sentence(difference: "Difference") -> str:
    text = f"  {difference.first} - {difference.second}: "
    text += "never both measured" if difference.mean is None else f"{difference.mean:+.4f}"
    if difference.interval is not None:
        text += f" [{difference.interval[0]:+.4f}, {difference.interval[1]:+.4f}]"
    text += f", p = {difference.p_holm:.2g} (Wilcoxon, Holm)"
    if difference.noise is not None:
        text += f"; a difference under {difference.noise:.4f} is noise here"
    return text
