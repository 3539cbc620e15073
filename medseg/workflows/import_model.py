"""import: a model that another program trained, as a model folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from medseg.errors import ConfigError, ModelError, SourceError, did_you_mean
from medseg.interop.model_zip import is_there
from medseg.interop.nnunet.importer import NnunetChoice, import_nnunet
from medseg.interop.nnunet.trained_folder import CheckpointName, trained_folders
from medseg.records import ORIENTATION


def import_model(
    source: str | Path,
    output: str | Path,
    *,
    configuration: str | None = None,
    folds: Sequence[str | int] = (),
    checkpoint: str = "final",
    orientation: str | None = None,
) -> Path:
    """Writes a model that another program trained as a model folder, which all other verbs take.

    No code of the source is run. What medseg cannot do as that program does is refused, by name; nothing is then
    written.

    Args:
        source: A trained folder of nnU-Net v2 (``nnUNetTrainer__nnUNetPlans__3d_fullres``), the folder of its dataset,
            or a zip of ``nnUNetv2_export_model_to_zip``.
        output: The model folder to write, which should not be there yet. Several folds become an ensemble, whose logits
            are averaged as nnU-Net does.
        configuration: Of nnU-Net, as "3d_fullres", where there are several.
        folds: Of nnU-Net; none: all that were cross-validated, else "all".
        checkpoint: Of nnU-Net: "final", "best" or "latest".
        orientation: Where the axes of the training images of nnU-Net pointed, such as "LPS"; images are then turned so.
            None takes them as they are stored, as nnU-Net does.

    Returns:
        ``output``.

    Raises:
        ModelError: The model is damaged, or asks for what medseg cannot do.
        SourceError: There is nothing, or a zip that is damaged or leads out of its place.
        ConfigError: There is no such checkpoint or orientation.
        OutputError: ``output`` is there already, or cannot be written.
    """
    source, output = Path(source), Path(output)
    if checkpoint not in get_args(CheckpointName):
        raise ConfigError(
            f"--checkpoint {checkpoint}: is not known{did_you_mean(checkpoint, get_args(CheckpointName))}"
        )
    if orientation is not None and not re.fullmatch(ORIENTATION, orientation):
        raise ConfigError(f"--orientation {orientation}: give three letters, such as LPS or RAS")
    if output.exists():
        raise is_there(output)
    if not source.exists():
        raise SourceError(f"{source}: there is no such file or folder")
    if trained_folders(source):
        which = tuple(str(fold).removeprefix("fold_") for fold in folds)
        import_nnunet(source, output, NnunetChoice(configuration, which, checkpoint, orientation))  # type: ignore[arg-type]
        return output
    raise ModelError(
        f"{source}: is no model that medseg knows: a trained folder of nnU-Net v2 has plans.json, dataset.json and "
        "fold_0/checkpoint_final.pth"
    )
