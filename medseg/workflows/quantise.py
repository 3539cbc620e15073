"""quantise: the network of a run in int8, where that costs no Dice."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ModelError, TrainingError
from medseg.inferers.model import load_model
from medseg.inferers.predictor import Predictor
from medseg.inferers.quantised import (
    FOLDER,
    LARGEST_LOSS,
    QuantisedRecord,
    QuantiseResult,
    check_quantisable,
    save_quantised,
)
from medseg.progress import counted, say
from medseg.training.quantisation import quantise_model
from medseg.training.run import reopen_run
from medseg.training.run_record import read_run_record
from medseg.training.validation import validate
from medseg.workflows.quantise_with_images import quantise_with_images


def quantise(
    run: str | Path, *, images: str | Path | None = None, references: str | Path | None = None
) -> QuantiseResult:
    """Quantises the network of a run, or of each fold, to int8, for ``predict`` on processors: about half of the time
    of bf16.

    Activations are measured on patches that it was trained on. It is kept, in RUN/model/int8, where the held-back cases
    lose no more than .001 of mean Dice.

    Args:
        run: The RUN. Its prepared dataset has to be there, or images of yours: a model folder will do then.
        images: What activations are measured on where the training data is elsewhere, as of imported models: whatever
            ``predict`` takes.
        references: Label maps of these images, for the Dice. None: the masks before and after are compared with each
            other, and it is kept where their mean Dice is .99 at least.

    Returns:
        Where it lies, and the Dice before and after.

    Raises:
        ModelError: The held-back cases lose more.
        TrainingError: There is no such run.
        ConfigError: NNCF isn't installed, or it is a network of valid convolutions.
    """
    folder = Path(run)
    if images is not None:
        return quantise_with_images(folder, Path(images), None if references is None else Path(references))
    is_run = any(chain(folder.glob("run.json"), folder.glob("fold_*/run.json")))
    if not is_run and any(chain(folder.glob("model.json"), folder.glob("fold_*/model.json"))):
        raise TrainingError(
            f"{folder}: is no run, so its training data is elsewhere; give --images to measure on, images="
        )
    runs = sorted(path.parent for path in folder.glob("fold_*/run.json")) or [folder]
    models = {each: _models(folder, each) for each in runs}
    records = tuple(_quantise(each, places) for each, places in models.items())
    result = QuantiseResult(tuple(places[-1] / FOLDER for places in models.values()), records)
    say(f"In int8 the mean Dice of held-back cases is {result.dice:.4f}, before it was {result.dice_before:.4f}")
    return result


def _models(folder: Path, run: Path) -> list[Path]:
    """Returns the model of a run, and, where it is a fold, its copy in the ensemble."""
    member = folder / "model" / run.name
    return [run / "model", member] if member.is_dir() else [run / "model"]


def _quantise(folder: Path, places: Sequence[Path]) -> QuantisedRecord:
    """Quantises the network of one run; ``places`` are the models that get it."""
    record = read_run_record(folder)
    dataset = PreparedDataset(Path(record.prepared))
    run = reopen_run(folder, dataset, Config())
    model = load_model(folder, choose_device("cpu"))
    check_quantisable(model.network, folder)
    made = quantise_model(run, model)
    held_back = dataset.subset(run.split.validation)
    say(f"Comparing on {counted(len(held_back), 'held-back case')}")
    before, after = (
        validate(Predictor(each, run.plan, model.device), held_back, model.record.inference).mean_dice
        for each in (model.network, made.model.network)
    )
    if before - after > LARGEST_LOSS:
        raise ModelError(
            f"{folder}: in int8 the held-back cases have a mean Dice of {after:.4f}, {before - after:.4f} less than "
            f"before, which is more than {LARGEST_LOSS}; nothing was kept, predict with --backend openvino"
        )
    noted = made.record(after, before, len(held_back))
    for place in places:
        save_quantised(made.graph, noted, place)
    return noted
