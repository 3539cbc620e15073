"""report.html of an evaluation by clicks: how good masks become, click by click."""

from collections.abc import Iterator
from pathlib import Path

from medseg.evaluation.clicks_json import ALL, GRAPH_CUT, MODEL, RANDOM_WALKER, ClicksRecord
from medseg.inferers.model import name_of_model
from medseg.labels import Labels
from medseg.progress import counted
from medseg.report.curves import Curve, Drawing, Mark
from medseg.report.distributions import BOTTOM, EDGE, LEFT, PLOT_HEIGHT, WIDTH
from medseg.report.page import write_page
from medseg.report.provenance import software
from medseg.report.scale import Scale

TEMPLATE = "report/clicks.html.j2"
COLOURS = {MODEL: "var(--accent)", RANDOM_WALKER: "var(--problem)", GRAPH_CUT: "var(--quiet)"}
MOST_OBJECTS = 500


def write_click_report(record: ClicksRecord, labels: Labels, path: Path) -> Path:
    """Writes report.html of an evaluation by clicks.

    Args:
        record: What was measured.
        labels: Of the references, for their colours.
        path: The file to write.

    Returns:
        The path.

    Raises:
        OutputError: The file cannot be written.
    """
    colours = {each.name: f"rgb{each.colour}" for each in labels.structures}
    worst = sorted(record.objects, key=lambda each: each.methods[MODEL].dice[record.clicks])
    return write_page(
        path,
        TEMPLATE,
        f"Clicks on {Path(record.references).name} with {name_of_model(Path(record.model))}",
        record=record,
        figures=list(_figures(record)),
        drawings=list(click_curves(record, colours)),
        colours=colours,
        worst=worst[:MOST_OBJECTS],
        left_out=len(worst[MOST_OBJECTS:]),
        provenance=[
            ("model", record.model),
            ("references", record.references),
            ("weights", record.fingerprint),
            software(),
        ],
    )


def click_curves(record: ClicksRecord, colours: dict[str, str]) -> Iterator[Drawing]:
    """Yields drawings of the mean Dice over the clicks: of all objects by method, and of the model by structure.

    Args:
        record: What was measured.
        colours: CSS, by structure.
    """
    across = Scale.over([0.0, float(record.clicks)], LEFT / 2, WIDTH - EDGE, least_step=1)
    methods = {name: each.dice for name, each in record.summary.get(ALL, {}).items()}
    by_structure = {name: group[MODEL].dice for name, group in record.summary.items() if name != ALL}
    yield _drawing("Dice, all objects", methods, COLOURS, across)
    if len(by_structure) > 1:
        yield _drawing("Dice of each structure", by_structure, colours, across)


def _drawing(title: str, dice: dict[str, dict[int, float]], colours: dict[str, str], across: Scale) -> Drawing:
    up = Scale(0.0, 1.0, PLOT_HEIGHT - BOTTOM, EDGE)
    curves = []
    for name, values in dice.items():
        marks = [
            Mark(across(count), up(value), f"{name}, {counted(count, 'click')}: {value:.3f}")
            for count, value in sorted(values.items())
        ]
        points = " ".join(f"{mark.x},{mark.y}" for mark in marks)
        curves.append(Curve(name, colours.get(name, "var(--text)"), points, tuple(marks)))
    return Drawing(title, across, up, tuple(curves), below="clicks")


def _figures(record: ClicksRecord) -> Iterator[tuple[str, str]]:
    of_all = record.summary[ALL][MODEL]
    yield str(of_all.objects), counted(of_all.objects, "object").split(" ", 1)[1]
    for count in record.counts:
        yield f"{of_all.dice[count]:.3f}", f"Dice after {counted(count, 'click')}"
    if record.seconds_per_answer is not None:
        yield f"{record.seconds_per_answer:.2f}", "seconds an answer, median"
