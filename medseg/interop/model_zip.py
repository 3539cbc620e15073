"""A model in one file: a zip archive of its folder, without what names the data that it was trained on."""

import zipfile
from pathlib import Path

from medseg.device import choose_device
from medseg.errors import OutputError, reading
from medseg.files import json_text, written_whole
from medseg.inferers.model import load_model, model_folders
from medseg.inferers.model_record import RECORD, read_model_record
from medseg.inferers.recipe import read_recipe
from medseg.inferers.recipe_model import recipe_folder
from medseg.io.folders import is_hidden
from medseg.prediction.golden import GOLDEN, LABEL_MAP, write_golden


def is_there(path: Path) -> OutputError:
    """Returns the error of a package whose place is taken."""
    return OutputError(f"{path} is there already; remove it, or choose another -o")


def write_model_zip(model: Path, path: Path) -> Path:
    """Writes a model into a zip archive that ``predict`` takes as a model.

    Where the same package is there already, as after a call that was killed at its very end, it stays.

    Args:
        model: The RUN that trained it, or a model folder.
        path: The archive.

    Raises:
        OutputError: ``path`` is there already, and is no zip of just that model; or it cannot be written.
        ModelError: The model is damaged, or there is none.
    """
    if path.exists() and not zipfile.is_zipfile(path):
        raise is_there(path)
    recipe = recipe_folder(model)
    if recipe is not None:
        folder, single = recipe, [recipe / path for member in read_recipe(recipe).members for path in member.models]
    else:
        members = model_folders(model)
        folder = members[0] if len(members) == 1 else members[0].parent
        single = [folder]
    for each in single:
        if not (each / GOLDEN / LABEL_MAP).is_file():  # which is written last
            write_golden(load_model(each, choose_device("cpu")), each)
    with written_whole(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in _files(folder):
                place = f"{path.stem}/{file.relative_to(folder).as_posix()}"
                if file.name == RECORD:
                    content = json_text(read_model_record(file.parent).shareable().model_dump(mode="json"))
                    archive.writestr(place, content, zipfile.ZIP_DEFLATED)
                else:
                    archive.write(file, place)
        if path.exists() and _sums(path) != _sums(temporary):
            raise is_there(path)
    return path


def _sums(package: Path) -> dict[str, int]:
    """Returns the checksum of each member."""
    with reading(package, "a zip archive"), zipfile.ZipFile(package) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def _files(folder: Path) -> list[Path]:
    """Returns all files but hidden ones, which a call that was killed may have left half written."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(folder).parts)))
