"""A recipe that a user wrote in YAML: which models work together, and how; it becomes a model of several members."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from medseg.errors import ConfigError
from medseg.files import folder_written_whole
from medseg.inferers.model import model_folders, save_ensemble
from medseg.inferers.model_record import ModelRecord, read_model_record
from medseg.inferers.recipe import Member, MemberScope, Name, Recipe, Surroundings
from medseg.inferers.recipe_model import save_recipe
from medseg.labels import Labels
from medseg.postprocessing.components import Rule
from medseg.records import Record, read_yaml, validated
from medseg.structures import Value

ADVICE = "docs/how-to/recipes.md shows how it is written"


class MemberInFile(MemberScope):
    """A member as the user wrote it.

    Attributes:
        model: A path, or several.
        gives: Names of labels of the model, or names of the result by those of the model; None: all.
    """

    model: tuple[str, ...] = Field(min_length=1)
    gives: dict[str, str] | None = None

    @field_validator("model", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("gives", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {name: name for name in value} if isinstance(value, list) and set(map(type, value)) <= {str} else value


class RecipeFile(Record):
    """The content of the YAML file.

    Attributes:
        labels: Values by names; None: all labels that members give, numbered from 1.
        members: By name, in the order in which they work.
        rough: Where a user asks for some labels only, members look at what lies around those that this one found.
        fast: The member that works alone where a user wants masks sooner and less fine.
        postprocessing: Of the result.
    """

    labels: dict[str, Value] | None = None
    members: dict[Name, MemberInFile] = Field(min_length=1)
    rough: Surroundings | None = None
    fast: Name | None = None
    postprocessing: tuple[Rule, ...] = ()


def import_recipe(file: Path, output: Path) -> Path:
    """Writes a model of several members from a YAML file, and returns its folder.

    The members' models are copied, so that the folder can be given away. Paths are relative to the file, and may be
    RUNs, model folders or their zips::

        labels: {liver: 1, tumour: 2}
        members:
          coarse:
            model: runs/low_resolution
            gives: []
          fine:
            model: [runs/fine, runs/fine_2d]
            crop: {member: coarse, labels: [liver], margin_mm: 20}
            gives: {liver: liver, lesion: tumour}

    Args:
        file: The YAML file.
        output: The folder of the model, which should not be there yet.

    Raises:
        ConfigError: The file is no recipe, or names labels that its models don't have.
        ModelError: A model cannot be used.
        OutputError: The folder cannot be written, or is there already.
    """
    content = validated(read_yaml(file, ADVICE, ConfigError) or {}, RecipeFile, file, ADVICE, ConfigError)
    folders = {
        name: [model_folders((file.parent / path).expanduser()) for path in member.model]
        for name, member in content.members.items()
    }
    records = {name: read_model_record(models[0][0]) for name, models in folders.items()}
    recipe = _recipe(file, content, records)
    with folder_written_whole(output) as whole:
        for member in recipe.members:
            for place, folds in zip(member.models, folders[member.name], strict=True):
                _copy_model(folds, whole / place)
        save_recipe(whole, recipe)  # everything fits, or nothing is written
    return output


def _recipe(file: Path, content: RecipeFile, records: Mapping[str, ModelRecord]) -> Recipe:
    """Returns what recipe.json will hold."""
    members = {
        name: Member(
            name=name,
            models=_places(name, member.model),
            gives={label: label for label in records[name].labels.names} if member.gives is None else member.gives,
            crop=member.crop,
            previous=member.previous,
            within=member.within,
        )
        for name, member in content.members.items()
    }
    first = next((name for name, member in members.items() if member.previous is None), None)
    if first is None:
        raise ConfigError(f"{file}: each member asks for what another one found before it; {ADVICE}")
    fields: dict[str, Any] = {
        "labels": _labels(content.labels, list(members.values()), records),
        "channels": records[first].channels,
        "members": tuple(members.values()),
        "rough": content.rough,
        "fast": content.fast,
        "postprocessing": content.postprocessing,
    }
    return validated(fields, Recipe, file, ADVICE, ConfigError)


def _places(name: str, models: Sequence[str]) -> tuple[str, ...]:
    """Returns the folders of a member's models, inside of the folder of the whole."""
    return (name,) if len(models) == 1 else tuple(f"{name}_{i}" for i in range(len(models)))


def _labels(
    values_by_name: Mapping[str, int] | None, members: Sequence[Member], records: Mapping[str, ModelRecord]
) -> Labels:
    """Returns the labels of the result: those of the only member that gives some, where it gives all of its own."""
    giving = [member for member in members if member.gives]
    if values_by_name is not None:
        return Labels.from_names(values_by_name)
    if len(giving) == 1:
        own = records[giving[0].name].labels
        if giving[0].gives == {name: name for name in own.names}:
            return own
    names = dict.fromkeys(name for member in giving for name in member.gives.values())
    return Labels.from_names({name: i for i, name in enumerate(names, start=1)})


def _copy_model(folds: Sequence[Path], place: Path) -> None:
    if len(folds) > 1:
        save_ensemble(place, folds)
    else:
        shutil.copytree(folds[0], place)
