"""report.html of a run: how training went, what the network saw, how good it is on the cases held back."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.model_record import RECORD, ModelRecord, read_model_record
from medseg.labels import Labels
from medseg.metrics.definitions import METRICS
from medseg.progress import counted
from medseg.report.curves import training_curves
from medseg.report.evaluation import REPORT_FILE, titled
from medseg.report.page import write_page
from medseg.report.patches import PatchPicture
from medseg.report.plots import MEAN_DICE, log_points, log_rows
from medseg.report.provenance import Fact, record_facts, software

TEMPLATE = "report/training.html.j2"
FILES = (
    "config.yaml",
    "log.csv",
    "progress.png",
    "model/model.json",
    "validation/report.html",
    "validation/metrics.csv",
)


def write_training(folder: Path, labels: Labels, evaluation: Evaluation, patches: Sequence[PatchPicture]) -> Path:
    """Writes report.html of a run.

    Args:
        folder: Of the run, which the report is written into.
        labels: Names and colours.
        evaluation: Of the cases that were held back.
        patches: As the network got them.

    Returns:
        The path.

    Raises:
        OutputError: It cannot be written.
        SourceError: The log is damaged.
    """
    log = folder / "log.csv"
    return write_page(
        folder / REPORT_FILE,
        TEMPLATE,
        f"Training of {folder.resolve().name}",
        figures=list(_figures(log, evaluation)) if log.is_file() else [],
        curves=list(training_curves(log, labels)) if log.is_file() else [],
        patches=patches,
        labels=labels.items,
        summary=evaluation.summary,
        problems=evaluation.problems,
        metrics=[name for name in evaluation.measures.metrics if METRICS[name].better != "neither"],
        colours={label.name: label.colour for label in labels.structures},
        titled=titled,
        files=[name for name in FILES if (folder / name).is_file()],
        provenance=[*_facts(folder), ("trained with", software()[1])],
    )


def _figures(log: Path, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    rows = log_rows(log, ("epoch", "seconds"))
    yield str(len(rows)), "epoch" if len(rows) == 1 else "epochs"
    minutes = float(rows[-1]["seconds"]) / 60
    yield (f"{minutes / 60:.1f} h" if minutes >= 100 else f"{minutes:.1f} min"), "training"
    epochs, dice = log_points(rows, MEAN_DICE)
    if dice:
        best = max(range(len(dice)), key=dice.__getitem__)
        yield f"{dice[best]:.3f}", f"best validation Dice, epoch {epochs[best]:g}"
    mean = evaluation.summary.over_labels.get("dice")
    if mean is not None and mean.mean is not None:
        yield f"{mean.mean:.3f}", "Dice of the held-back cases"
    record = _model(log.parent)
    if record is not None and record.clicks is not None:
        objects = counted(record.clicks.objects, "held-back object")
        for count in (1, 5):
            yield f"{record.clicks.dice[count]:.3f}", f"Dice after {counted(count, 'click')}, of {objects}"


def _facts(folder: Path) -> Iterator[Fact]:
    yield "run", folder.resolve().name
    record = _model(folder)
    if record is not None:
        yield from record_facts(record)


def _model(folder: Path) -> ModelRecord | None:
    """Returns the record of the model of a run; None where it has none, as a run of all folds."""
    model = folder / "model"
    return read_model_record(model) if (model / RECORD).is_file() else None
