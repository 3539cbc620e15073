"""What 'medseg evaluate --clicks' does and prints."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from medseg.cli.json_output import print_json
from medseg.cli.status import tell_by_status
from medseg.errors import ConfigError
from medseg.progress import say

if TYPE_CHECKING:
    from medseg.evaluation.clicks_json import ClicksRecord


class Start(StrEnum):
    """What structures begin with that are labels of the model."""

    AUTOMATIC = "automatic"
    NOTHING = "nothing"


def clicked(models: list[Path], references: Path, output: Path | None, options: dict[str, Any], as_json: bool) -> None:
    """Evaluates a model by clicks, and shows what was measured.

    Args:
        models: Its run alone.
        references: A dataset.
        output: A folder, or None.
        options: The other arguments of ``medseg.evaluate_clicks``.
        as_json: Whether the content of clicks.json is printed, and no table.

    Raises:
        ConfigError: There are several models.
    """
    from medseg.workflows.evaluate_clicks import evaluate_clicks

    if len(models) > 1:
        raise ConfigError("--clicks: evaluates one model; give one run")
    record = evaluate_clicks(models[0], references, output, **options)
    if as_json:
        print_json(record.as_json())
    else:
        show(record)
    if output is not None:
        say(f"Written: {output / 'clicks.json'}, {output / 'report.html'}")
    if record.problems:
        tell_by_status([False] * len(record.problems))


def show(record: "ClicksRecord") -> None:
    """Prints the mean Dice after so many clicks, by structure and method."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    answer = "" if record.seconds_per_answer is None else f"; an answer takes {record.seconds_per_answer:.2f} s"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        caption=f"mean Dice after so many clicks; NoC: clicks to that Dice{answer}",
        caption_justify="left",
    )
    table.add_column("structure", overflow="fold", min_width=8)
    table.add_column("method", overflow="fold")
    for name in ("objects", *map(str, record.counts), "AUC", "NoC\n.85", "NoC\n.90"):
        table.add_column(name, justify="right", no_wrap=True)
    for structure, methods in record.summary.items():
        for method, of in methods.items():
            dice = [f"{of.dice[count]:.3f}" if count in of.dice else "–" for count in record.counts]
            noc = [f"{each:.1f}" for each in of.noc.values()] or ["–", "–"]
            auc = "–" if of.auc is None else f"{of.auc:.3f}"
            table.add_row(escape(structure), method, str(of.objects), *dice, auc, *noc)
    Console(highlight=False).print(table)
