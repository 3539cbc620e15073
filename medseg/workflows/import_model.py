"""import: a model that another program trained, as a model folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from medseg.errors import ConfigError, ModelError, SourceError, did_you_mean
from medseg.interop.bundle.model import bundle_at, import_bundle
from medseg.interop.model_zip import is_there
from medseg.interop.nnunet.importer import NnunetChoice, import_nnunet
from medseg.interop.nnunet.several import import_averaged, import_cascade, stages_of
from medseg.interop.nnunet.trained_folder import CheckpointName, trained_folders
from medseg.interop.recipe_file import import_recipe
from medseg.interop.totalsegmentator.importer import import_totalsegmentator
from medseg.interop.totalsegmentator.tasks import Speed, weights_folder
from medseg.records import ORIENTATION

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")
TOTALSEGMENTATOR = "totalsegmentator"  # in place of a folder: where its program keeps weights


def import_model(
    source: str | Path,
    output: str | Path,
    *,
    configuration: str | None = None,
    folds: Sequence[str | int] = (),
    checkpoint: str = "final",
    orientation: str | None = None,
    task: str | None = None,
    speed: str = "default",
    entries: Sequence[str] = (),
) -> Path:
    """Writes a model that another program trained as a model folder, which all other verbs take.

    No code of the source is run. What medseg cannot do as that program does is refused, by name; nothing is then
    written.

    Args:
        source: A trained folder of nnU-Net v2 (``nnUNetTrainer__nnUNetPlans__3d_fullres``), the folder of its dataset,
            a zip of ``nnUNetv2_export_model_to_zip``; a bundle of MONAI, as a folder or a zip; "totalsegmentator", or
            the folder where its program keeps weights; a recipe of several models in YAML.
        output: The model folder to write, which should not be there yet. Several folds become an ensemble, whose logits
            are averaged as nnU-Net does.
        configuration: Of nnU-Net, as "3d_fullres", where there are several. "3d_cascade_fullres" takes both stages of
            the cascade; "2d+3d_fullres" averages the probabilities of two. Of a bundle the name of a file in its
            configs/; None: "inference".
        folds: Of nnU-Net; none: all that were cross-validated, else "all".
        checkpoint: Of nnU-Net: "final", "best" or "latest".
        orientation: Where the axes of the training images of nnU-Net pointed, such as "LPS"; images are then turned so.
            None takes them as they are stored, as nnU-Net does.
        task: Of TotalSegmentator; None: "total".
        speed: Of TotalSegmentator: "default", "fast" (3 mm) or "fastest" (6 mm), where the task has it.
        entries: Of a bundle: "ENTRY::ENTRY=VALUE", entries of its configuration to change first.

    Returns:
        ``output``.

    Raises:
        ModelError: The model is damaged, or asks for what medseg cannot do.
        SourceError: There is nothing, or a zip that is damaged or leads out of its place.
        ConfigError: There is no such checkpoint, orientation, task or entry, or a recipe is wrong.
        OutputError: ``output`` is there already, or cannot be written.
    """
    source, output = Path(source), Path(output)
    if checkpoint not in get_args(CheckpointName):
        raise ConfigError(
            f"--checkpoint {checkpoint}: is not known{did_you_mean(checkpoint, get_args(CheckpointName))}"
        )
    if orientation is not None and not re.fullmatch(ORIENTATION, orientation):
        raise ConfigError(f"--orientation {orientation}: give three letters, such as LPS or RAS")
    if speed not in get_args(Speed):
        raise ConfigError(f"speed {speed}: is not known{did_you_mean(speed, get_args(Speed))}")
    if output.exists():
        raise is_there(output)
    is_here = str(source).lower() == TOTALSEGMENTATOR and not source.exists()
    if is_here or (source.is_dir() and (task is not None or weights_folder(source) is not None)):
        import_totalsegmentator(None if is_here else source, output, task or "total", cast(Speed, speed))
        return output
    if source.suffix in (".yaml", ".yml"):
        return import_recipe(source, output)
    if not source.exists():
        raise SourceError(f"{source}: there is no such file or folder")
    if trained_folders(source):
        which = tuple(str(fold).removeprefix("fold_") for fold in folds)
        choice = NnunetChoice(configuration, which, checkpoint, orientation)  # type: ignore[arg-type]
        if configuration is not None and "+" in configuration:
            import_averaged(source, output, choice)
        elif len(stages := stages_of(source, configuration)) > 1:
            import_cascade(stages, output, choice)
        else:
            import_nnunet(source, output, choice)
        return output
    bundle = bundle_at(source)
    if bundle is not None:
        return import_bundle(bundle, output, configuration=configuration, entries=entries)
    if source.suffix.lower() in CHECKPOINTS:
        raise ModelError(
            f"{source}: is weights alone, which say not how images are prepared; give the folder of nnU-Net with "
            "plans.json and dataset.json, or of a bundle. 'medseg train --init' takes a checkpoint of nnU-Net or nnssl"
        )
    raise ModelError(
        f"{source}: is no model that medseg knows: a trained folder of nnU-Net v2 has plans.json, dataset.json and "
        "fold_0/checkpoint_final.pth, a bundle of MONAI has configs/inference.json; 'totalsegmentator' means the "
        "weights of that program on this disk"
    )
