"""A recipe with the models of its members, ready to predict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medseg.device import Device, choose_device
from medseg.errors import ConfigError, ModelError, did_you_mean
from medseg.inferers.model import Model, load_model, model_folders, see_the_same, weights_fingerprint
from medseg.inferers.model_record import read_model_record
from medseg.inferers.recipe import (
    RECIPE,
    EarlierResult,
    Member,
    Recipe,
    only_fast,
    only_labels,
    read_recipe,
    write_recipe,
)
from medseg.io.archives import is_archive, unpacked_content


@dataclass(frozen=True)
class RecipeModel:
    """A recipe with the models of its members, ready to predict.

    Attributes:
        folder: Where recipe.json lies; of a single model that gives some of its labels, that of the model.
        record: The recipe.
        models: By the name of a member that is at work.
    """

    folder: Path
    record: Recipe
    models: Mapping[str, tuple[Model, ...]]

    @property
    def every_model(self) -> list[Model]:
        """The models of all members, in their order."""
        return [model for member in self.at_work for model in self.models[member.name]]

    @property
    def at_work(self) -> tuple[Member, ...]:
        """The members that give something, and those whose results they ask for, in their order."""
        return self.record.at_work

    @property
    def tolerance(self) -> float:
        """How far apart the grids of a case may lie, as part of the smallest voxel edge."""
        return min(model.record.plan.grid.tolerance for model in self.every_model)

    @property
    def registered(self) -> bool:
        """Whether channels on other grids than the first are resampled to it."""
        return all(model.record.plan.grid.registered for model in self.every_model)

    @property
    def name(self) -> str:
        """The name of the recipe: that of its folder."""
        return self.folder.resolve().name

    @property
    def device(self) -> Device:
        """Where its networks lie."""
        return self.every_model[0].device

    @property
    def backend(self) -> str:
        """What runs its networks; each once, as some may be too fast to be worth another one than torch."""
        return ", ".join(dict.fromkeys(model.backend for model in self.every_model))

    @property
    def members(self) -> tuple[Path, ...]:
        """The folders of its networks, one for each."""
        return tuple(folder for model in self.every_model for folder in model.folders)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all weights."""
        return weights_fingerprint(*self.members)

    def without_rules(self) -> "RecipeModel":
        """Returns the recipe without the rules of postprocessing of its result; its models keep theirs."""
        return replace(self, record=self.record.model_copy(update={"postprocessing": ()}))

    def each(self, change: Callable[[Model], Model]) -> "RecipeModel":
        """Returns the same recipe with each model changed."""
        return replace(self, models={name: tuple(map(change, models)) for name, models in self.models.items()})


def load_any(
    paths: Sequence[Path],
    device: Device,
    labels: Sequence[str] | None = None,
    head: int | None = None,
    network: torch.nn.Module | None = None,
    fast: bool = False,
) -> Model | RecipeModel:
    """Returns whatever predicts: a model, an ensemble, a model of several members, or some labels of one of these.

    Args:
        paths: A model or RUN; a model of several members; or several models, whose logits are averaged where they have
            one plan, else their probabilities.
        device: Where networks go.
        labels: Of the result; None: all.
        head: As in ``load_model``.
        network: As in ``load_model``.
        fast: As in ``load_recipe``.

    Raises:
        ModelError: A model cannot be used, or not with the others.
        LabelError: There is no such label.
        ConfigError: There is no such head, or a recipe has none; or nothing is fast.
    """
    recipes = [recipe_folder(path) for path in paths]
    if fast and recipes[0] is None:
        raise ConfigError(f"--fast: {paths[0]} is no model of several members, of which one is fast")
    if recipes[0] is not None and len(paths) == 1:
        if head is not None or network is not None:
            raise ConfigError(f"{recipes[0]}: is a model of several members, which takes neither a head nor a network")
        return load_recipe(recipes[0], device, labels, fast)
    if any(recipes):
        raise ModelError(f"{next(filter(None, recipes))}: is a model of several members; give it alone")
    if network is None and len(paths) > 1 and not _have_one_plan(paths):
        models = tuple(load_model(path, device, head) for path in paths)
        recipe = _giving_all(models)
    else:
        model = load_model(paths, device, head, network)
        if labels is None:
            return model
        recipe = _giving_all((model,))
    check_members(recipe)
    return recipe if labels is None else replace(recipe, record=only_labels(recipe.record, labels))


def _have_one_plan(paths: Sequence[Path]) -> bool:
    """Returns whether windows of one model are windows of all others."""
    first, *others = (read_model_record(model_folders(path)[0]).plan for path in paths)
    return all(see_the_same(plan, first) for plan in others)


def _giving_all(models: tuple[Model, ...]) -> RecipeModel:
    """Returns a recipe of one member, which gives all labels of its models."""
    record = models[0].record
    member = Member(
        name="model",
        models=tuple(f"model_{i}" for i in range(len(models))),
        gives={name: name for name in record.labels.names},
    )
    recipe = Recipe(labels=record.labels, channels=record.channels, members=(member,))
    return RecipeModel(models[0].folder, recipe, {member.name: models})


def recipe_folder(path: Path | str) -> Path | None:
    """Returns the folder of a recipe: ``path``, or what the archive there holds; None where it is another model."""
    path = Path(path)
    path = unpacked_content(path) if path.is_file() and is_archive(path) else path
    return path if (path / RECIPE).is_file() else None


def load_recipe(
    folder: Path, device: Device | str = "auto", labels: Sequence[str] | None = None, fast: bool = False
) -> RecipeModel:
    """Returns a model of several members, ready to predict.

    Args:
        folder: With a recipe.json.
        device: Where its networks go.
        labels: Of the result; members that give none of them are not loaded. None: all.
        fast: Only the member works that is faster and less fine than the others together.

    Raises:
        ModelError: The recipe, or a model of a member, is damaged or doesn't fit the others.
        LabelError: There is no such label.
        ConfigError: There is no such device, or no member is fast.
    """
    recipe = read_recipe(folder)
    if fast:
        recipe = only_fast(recipe, _labels_of_fast(folder, recipe))
    device = choose_device(device) if isinstance(device, str) else device
    models: dict[str, tuple[Model, ...]] = {}

    def load(members: Iterable[Member]) -> None:
        for member in members:
            if member.name not in models:
                models[member.name] = tuple(load_model(folder / path, device) for path in member.models)

    if labels is not None:
        load(member for member in recipe.members if recipe.rough and member.name == recipe.rough.member)
        recipe = only_labels(
            recipe, labels, [name for (rough,) in models.values() for name in rough.record.labels.names]
        )
    load(recipe.at_work)
    loaded = RecipeModel(folder, recipe, models)
    check_members(loaded)
    return loaded


def _labels_of_fast(folder: Path, recipe: Recipe) -> list[str]:
    """Returns the labels of the fast member's model."""
    models = [member.models[0] for member in recipe.members if member.name == recipe.fast]
    if not models:
        raise ConfigError(
            f"--fast: {folder} has no fast member; import it again where the weights of the fast model lie too, or "
            "name one in the recipe (docs/how-to/recipes.md)"
        )
    return read_model_record(model_folders(folder / models[0])[0]).labels.names


def save_recipe(folder: Path, recipe: Recipe) -> None:
    """Writes recipe.json into a folder that has the models of its members, and checks that they fit it.

    Raises:
        ModelError: A model is damaged, or doesn't fit the others.
        OutputError: It cannot be written.
    """
    write_recipe(folder, recipe)
    for fast in (False, True) if recipe.fast else (False,):
        load_recipe(folder, choose_device("cpu", "fp32"), fast=fast)


def check_members(model: RecipeModel) -> None:
    """Checks that the models of a recipe are what it says of them.

    Raises:
        ModelError: A model has other labels or channels.
    """
    recipe, models = model.record, model.models
    for member in recipe.at_work:
        first, *others = (each.record for each in models[member.name])
        where = f"{model.folder}: member '{member.name}'"
        for wanted, name in [((*member.gives, *member.erases), member.name)] + [
            (found.labels, found.member) for found in (member.crop, member.previous, member.within) if found is not None
        ]:
            known = models[name][0].record.labels.names
            unknown = [label for label in wanted if label not in known]
            if unknown:
                near = did_you_mean(unknown[0], known)
                raise ModelError(f"{where} names '{unknown[0]}', which is no label of '{name}'{near}")
        for other in others:
            same = other.labels.names == first.labels.names and other.plan.regions == first.plan.regions
            if not same or other.channels != first.channels:
                raise ModelError(
                    f"{where}: its models have other labels, regions or channels than each other; only models of one "
                    "task can be averaged"
                )
        n_channels = len(recipe.channels) + (0 if member.previous is None else len(previous_values(member, models)))
        if len(first.channels) != n_channels:
            raise ModelError(
                f"{where}: has {len(first.channels)} channels ({', '.join(first.channels)}), and would get {n_channels}"
            )


def previous_values(member: Member, models: Mapping[str, Sequence[Model]]) -> tuple[int, ...]:
    """Returns the network values of the labels that a member sees as channels; () where it sees none."""
    return () if member.previous is None else named_values(member.previous, models)


def named_values(found: EarlierResult, models: Mapping[str, Sequence[Model]]) -> tuple[int, ...]:
    """Returns the network values of what is named of an earlier member."""
    names = models[found.member][0].record.labels.names
    return tuple(names.index(name) + 1 for name in found.labels or names)
