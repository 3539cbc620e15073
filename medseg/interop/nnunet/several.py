"""nnU-Net's cascade, and its ensembles of configurations: several trained folders as a model of several members."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.errors import ModelError
from medseg.files import folder_written_whole
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.recipe import EarlierResult, Member, Recipe
from medseg.inferers.recipe_model import save_recipe
from medseg.interop.nnunet.importer import BOTH_STAGES, NnunetChoice, previous_stage, tell_import, write_folds
from medseg.interop.nnunet.trained_folder import TrainedFolder


def stages_of(source: Path, configuration: str | None) -> list[TrainedFolder]:
    """Returns the trained folders of a configuration: of a cascade the stage before it first.

    Args:
        source: The folder of a dataset, or one trained folder.
        configuration: As "3d_cascade_fullres".

    Raises:
        ModelError: There is none, or a stage is missing.
    """
    stages = [TrainedFolder.find(source, configuration)]
    while (previous := previous_stage(stages[0])) is not None:
        if len(stages) > 1:
            raise ModelError(f"{stages[0].path}: a cascade of more than two stages is not known")
        try:
            stages.insert(0, TrainedFolder.find(source, previous))
        except ModelError as error:
            raise ModelError(
                f"{stages[0].path}: is the second stage of a cascade, which sees what '{previous}' found; {BOTH_STAGES}"
            ) from error
    return stages


def import_cascade(stages: Sequence[TrainedFolder], output: Path, choice: NnunetChoice) -> Recipe:
    """Writes the two stages of a cascade as a model of two members, of which the second sees what the first found.

    Args:
        stages: The two trained folders.
        output: The folder of the model, which should not be there yet.
        choice: Which folds and checkpoints.

    Raises:
        ModelError: A model is damaged, or the two do not fit together.
        OutputError: ``output`` cannot be written, or is there already.
    """
    with folder_written_whole(output) as whole:
        first, second = (_write_stage(stage, whole, replace(choice, as_stage=True)) for stage in stages)
        names = tuple(stage.named_configuration for stage in stages)
        members = (
            Member(name=names[0], models=names[:1], gives={}),
            Member(
                name=names[1],
                models=names[1:],
                gives={name: name for name in second.labels.names},
                previous=EarlierResult(member=names[0]),
            ),
        )
        recipe = Recipe(labels=second.labels, channels=first.channels, members=members, origin=second.origin)
        save_recipe(whole, recipe)  # everything fits, or nothing is written
    return recipe


def import_averaged(source: Path, output: Path, choice: NnunetChoice) -> Recipe:
    """Writes several configurations as a model whose members' probabilities are averaged, as nnUNetv2_ensemble does.

    Args:
        source: The folder of a dataset.
        output: The folder of the model, which should not be there yet.
        choice: Of which ``configuration`` names several, as "2d+3d_fullres".

    Raises:
        ModelError: A model is damaged or missing, or the models do not fit together.
        OutputError: ``output`` cannot be written, or is there already.
    """
    names = tuple((choice.configuration or "").split("+"))
    folders = [TrainedFolder.find(source, name) for name in names]
    for folder in folders:
        if previous_stage(folder) is not None:
            raise ModelError(f"{folder.path}: is a stage of a cascade, which cannot be averaged with others")
    with folder_written_whole(output) as whole:
        first, *_ = [_write_stage(folder, whole, replace(choice, configuration=None)) for folder in folders]
        member = Member(name="all", models=names, gives={name: name for name in first.labels.names})
        recipe = Recipe(labels=first.labels, channels=first.channels, members=(member,), origin=first.origin)
        save_recipe(whole, recipe)
    return recipe


def _write_stage(trained: TrainedFolder, whole: Path, choice: NnunetChoice) -> ModelRecord:
    """Writes the model of a configuration into a folder of its name, of several folds as an ensemble."""
    record = write_folds(trained, whole / trained.named_configuration, choice)
    tell_import(record, list(trained.folds(choice.folds, choice.checkpoint)))
    return record
