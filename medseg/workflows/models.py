"""models: which ones lie on this disk, and what is known of one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.dataset.dataset_json import label_names
from medseg.errors import MedsegError, SourceError
from medseg.inferers.model_card import ModelCard
from medseg.inferers.model_record import RECORD, ModelRecord, read_model_record
from medseg.inferers.recipe import RECIPE, Recipe, read_recipe
from medseg.inferers.recipe_card import RecipeCard
from medseg.inferers.recipe_model import recipe_folder
from medseg.interop.nnunet.trained_folder import DATASET, TrainedFolder, is_trained_folder
from medseg.interop.totalsegmentator.importer import PROGRAM, licence_of
from medseg.interop.totalsegmentator.tasks import usual_weights_folder
from medseg.io.folders import is_hidden
from medseg.progress import warn
from medseg.records import Record

DEEPEST = 5  # folders below the one that is given
ENSEMBLE = "fold_0"
NNUNET = "nnUNet_results"  # where nnU-Net keeps what it trained


class FoundModel(Record):
    """A model that lies on the disk.

    Attributes:
        path: Its folder.
        program: That trained it.
        name: Of the dataset, or of the folder.
        structures: What it segments.
        licence: As its maker says; "" where nobody does.
        is_medseg: Whether medseg can predict with it as it lies there. Others have to be imported.
    """

    path: str
    program: str
    name: str
    structures: tuple[str, ...]
    licence: str
    is_medseg: bool


def model_card(model: str | Path) -> ModelCard | RecipeCard:
    """Returns what is known of a model: where it came from, what it sees and finds, and what was measured of it.

    Args:
        model: A RUN, a model folder, or a packed model; a model of several members has a card of each.

    Raises:
        ModelError: There is no model, or it is damaged.
    """
    recipe = recipe_folder(Path(model))
    return ModelCard.of(Path(model)) if recipe is None else RecipeCard.of(recipe)


def list_models(folders: Sequence[str | Path] = ()) -> tuple[FoundModel, ...]:
    """Returns the models below folders: medseg's, and trained folders of nnU-Net v2, which ``import_model`` takes.

    What cannot be read is warned of, and left out. Nothing is downloaded.

    Args:
        folders: Where to look. None given: in the current folder, and where nnU-Net (``nnUNet_results``) and
            TotalSegmentator keep theirs.

    Raises:
        SourceError: There is no such folder.
    """
    places = [Path(folder) for folder in folders] or [Path(), *_places_of_others()]
    for place in places:
        if not place.is_dir():
            raise SourceError(f"{place}: is no folder")
    found = {}
    for path in (path for place in places for path in _models(place, DEEPEST)):
        try:
            found[path.resolve()] = _found(path)
        except MedsegError as error:
            warn(f"{error}; left out")
    return tuple(found.values())


def _places_of_others() -> Iterator[Path]:
    named = [Path(os.environ[NNUNET])] if os.environ.get(NNUNET) else []
    yield from (path for path in (*named, usual_weights_folder()) if path.is_dir())


def _models(folder: Path, deeper: int) -> Iterator[Path]:
    files = (RECORD, RECIPE, f"{ENSEMBLE}/{RECORD}")
    if any((folder / name).is_file() for name in files) or is_trained_folder(folder):
        yield folder
    elif deeper:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        except PermissionError:
            return
        for path in inner:
            if not is_hidden(path.name):
                yield from _models(path, deeper - 1)


def _found(path: Path) -> FoundModel:
    if is_trained_folder(path):
        trained = TrainedFolder(path)
        labels, _ = label_names(trained.dataset, path / DATASET)
        licence = licence_of(path.parent.name)
        return FoundModel(
            path=str(path),
            program="nnU-Net" if licence is None else PROGRAM,
            name=trained.plans.dataset_name or path.name,
            structures=() if labels is None else tuple(labels.unions),
            licence=licence or trained.licence,
            is_medseg=False,
        )
    record: ModelRecord | Recipe
    if (path / RECIPE).is_file():
        record = read_recipe(path)
    else:
        record = read_model_record(path if (path / RECORD).is_file() else path / ENSEMBLE)
    origin = record.origin
    return FoundModel(
        path=str(path),
        program="medseg" if origin is None else origin.program,
        name=(origin.dataset if origin else "") or (path.parent if path.name in ("model", "model-last") else path).name,
        structures=tuple(record.labels.unions),
        licence="" if origin is None else origin.licence,
        is_medseg=True,
    )
