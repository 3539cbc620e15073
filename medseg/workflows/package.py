"""package: a model as one file, as ONNX, or as a MONAI bundle."""

import zipfile
from pathlib import Path
from typing import Literal, get_args

from medseg.device import choose_device
from medseg.errors import ConfigError, OutputError, did_you_mean, reading
from medseg.files import folder_written_whole, json_text, written_whole
from medseg.inferers.model import RECORD, load_model, model_folders, read_model_record
from medseg.interop.monai_bundle import write_monai_bundle
from medseg.interop.onnx_folder import write_onnx_folder
from medseg.io.folders import is_hidden
from medseg.workflows.finish import GOLDEN, LABEL_MAP, write_golden

PackageFormat = Literal["zip", "onnx", "monai-bundle"]


def package(model: str | Path, output: str | Path, *, format: str = "zip") -> Path:
    """Writes a model in a form that can be given away.

    Args:
        model: The RUN that trained it, or a model folder.
        output: The file or folder to write, which should not be there yet.
        format: "zip": one file that ``predict`` takes as a model. "onnx": a folder with network.onnx (float32, windows
            of one shape, any number of them) and model.json, which says how images are prepared and labels made.
            "monai-bundle": a folder that ``python -m monai.bundle run --config_file configs/inference.json`` predicts
            with, without medseg.

    Returns:
        What was written: ``output``.

    Raises:
        ConfigError: There is no such format, or it cannot hold this model.
        OutputError: ``output`` is there already, and is no zip of just that model; or it cannot be written.
        ModelError: The model is damaged, or there is none.
    """
    if format not in get_args(PackageFormat):
        raise ConfigError(f"--format {format}: is not known{did_you_mean(format, get_args(PackageFormat))}")
    path = Path(output)
    if format == "zip":
        if path.suffix != ".zip":
            raise OutputError(f"{path}: a packaged model is named .zip")
        return _zip(Path(model), path)
    if path.exists():
        raise _is_there(path)
    loaded = load_model(Path(model), choose_device("cpu", "fp32"))
    with folder_written_whole(path) as folder:
        (write_onnx_folder if format == "onnx" else write_monai_bundle)(loaded, folder)
    return path


def _is_there(path: Path) -> OutputError:
    return OutputError(f"{path} is there already; remove it, or choose another -o")


def _zip(model: Path, path: Path) -> Path:
    """Where the same package is there already, as after a call that was killed at its very end, it stays."""
    if path.exists() and not zipfile.is_zipfile(path):
        raise _is_there(path)
    members = model_folders(model)
    folder = members[0] if len(members) == 1 else members[0].parent
    if not (folder / GOLDEN / LABEL_MAP).is_file():  # which is written last
        write_golden(load_model(folder, choose_device("cpu")), folder)
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
            raise _is_there(path)
    return path


def _sums(package: Path) -> dict[str, int]:
    """The checksum of each member."""
    with reading(package, "a zip archive"), zipfile.ZipFile(package) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def _files(folder: Path) -> list[Path]:
    """All but hidden ones, which a call that was killed may have left half written."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(folder).parts)))
