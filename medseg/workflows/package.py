"""package: a model as one file, as ONNX, as a MONAI bundle, or as a trained folder of nnU-Net."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from medseg.device import choose_device
from medseg.errors import ConfigError, OutputError, did_you_mean
from medseg.files import folder_written_whole
from medseg.inferers.memory_plan import frugal_window
from medseg.inferers.model import Model, load_model
from medseg.interop.model_zip import is_there, write_model_zip
from medseg.interop.monai_bundle import write_monai_bundle
from medseg.interop.nnunet.exporter import write_nnunet_folder
from medseg.interop.onnx_folder import write_onnx_folder

PackageFormat = Literal["zip", "onnx", "monai-bundle", "nnunet"]
WRITERS = {"onnx": write_onnx_folder, "monai-bundle": write_monai_bundle, "nnunet": write_nnunet_folder}


def package(model: str | Path, output: str | Path, *, format: str = "zip") -> Path:
    """Writes a model in a form that can be given away.

    Args:
        model: The RUN that trained it, or a model folder.
        output: The file or folder to write, which should not be there yet.
        format: "zip": one file that ``predict`` takes as a model. "onnx": a folder with network.onnx (float32, windows
            of one shape, any number of them) and model.json, which says how images are prepared and labels made.
            "monai-bundle": a folder that ``python -m monai.bundle run --config_file configs/inference.json`` predicts
            with, without medseg. "nnunet": a folder for ``nnUNet_results``, with which ``nnUNetv2_predict`` predicts;
            what it does in another way than medseg is warned of.

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
        return write_model_zip(Path(model), path)
    if path.exists():
        raise is_there(path)
    loaded = _by_patches(load_model(Path(model), choose_device("cpu", "fp32")))
    with folder_written_whole(path) as folder:
        WRITERS[format](loaded, folder)
    return path


def _by_patches(model: Model) -> Model:
    """Returns the model with windows no larger than the patch.

    Other programs pad an image that is smaller than a window, and instance norm counts what was added: in training
    that never were more voxels than a patch has.
    """
    inference = model.record.inference.model_copy(update={"window": frugal_window(model.record)})
    return replace(model, record=model.record.model_copy(update={"inference": inference}))
