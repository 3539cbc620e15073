"""A model of several members: which of them look where, at what, and what of their label maps is the result.

The members are models like any other. ``recipe.json`` beside their folders says how they work together: a first one of
low resolution finds where a finer one looks (coarse to fine), a cascade gets the structures of the stage before as
channels (nnU-Net, Isensee et al. 2021), parts of a task are put together (TotalSegmentator, Wasserthal et al. 2023),
and models of different plans are averaged.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, model_validator

from medseg.dataset.spacing import SaidSpacing
from medseg.errors import LabelError, ModelError, did_you_mean
from medseg.inferers.origin import Origin
from medseg.labels import MOST_LABELS, Labels
from medseg.postprocessing.components import Rule
from medseg.records import PathInside, Record, read_object, read_record, shown_value, write_record
from medseg.version import VERSION

FORMAT_VERSION = 1
RECIPE = "recipe.json"
COPY = "copy the whole model folder again"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class EarlierResult(Record):
    """What an earlier member found.

    Attributes:
        member: Its name.
        labels: Names of labels of its model; (): all of them.
    """

    member: Name
    labels: tuple[str, ...] = ()


class Surroundings(EarlierResult):
    """What an earlier member found, and all that lies near it.

    Attributes:
        margin_mm: How far from it, in mm; it is rounded down to voxels.
    """

    margin_mm: NonNegativeFloat = 20.0


class MemberScope(Record):
    """Where a member looks, and what it asks of those before it.

    Attributes:
        crop: The member sees the box around this; where nothing was found, it finds nothing.
        previous: What the member sees as channels behind those of the image, one for each label, of 0 and 1.
        within: What it finds elsewhere is removed.
    """

    crop: Surroundings | None = None
    previous: EarlierResult | None = None
    within: Surroundings | None = None

    @property
    def needs(self) -> set[str]:
        """The names of the members whose results it asks for."""
        return {found.member for found in (self.crop, self.previous, self.within) if found is not None}


class Member(MemberScope):
    """One step of a recipe: what models see, and what of their label map becomes a part of the result.

    Attributes:
        name: Of the step.
        models: Folders inside of the model's folder. Of several, which may have different plans, probabilities are
            averaged on the grid of the source.
        gives: Names of labels of the result by those of the model. What is not named is left out; {}: the member only
            helps others.
        erases: Names of other labels of the model: where it finds them, nothing is left of what members before it gave.
    """

    name: Name
    models: tuple[PathInside, ...] = Field(min_length=1)
    gives: dict[str, str]
    erases: tuple[str, ...] = ()


class Recipe(Record):
    """The content of recipe.json.

    Attributes:
        format_version: Of the file.
        medseg: The version that wrote it.
        labels: Of the result.
        channels: Of the image.
        members: In the order in which they work; where two find something, the later one's label stays.
        rough: Where a user asks for some labels only, the other members look at what lies around those of them that
            this one found.
        fast: The member that works alone, with those that it asks for, where a user wants masks sooner and less fine.
        postprocessing: Of the result.
        origin: Where it came from; None of a user's own.
    """

    format_version: int = FORMAT_VERSION
    medseg: str = VERSION
    labels: Labels
    channels: tuple[str, ...] = Field(min_length=1)
    members: tuple[Member, ...] = Field(min_length=1)
    rough: Surroundings | None = None
    fast: Name | None = None
    postprocessing: tuple[Rule, ...] = ()
    origin: Origin | None = None

    # What a model of one network may say in its record, and a recipe does not.
    @property
    def channel_dropout(self) -> bool:
        """Whether cases may lack channels: they may not."""
        return False

    @property
    def said_spacings(self) -> tuple[SaidSpacing, ...]:
        """What users said of the spacing of training images: not known here."""
        return ()

    @property
    def review(self) -> None:
        """Rules of which cases to look at: there are none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names: list[str] = []
        for member in self.members:
            if member.name in names:
                raise ValueError(f"two members have the name '{member.name}'")
            unknown = member.needs - set(names)
            if unknown:
                raise ValueError(f"member '{member.name}' asks for '{min(unknown)}', which is no member before it")
            strange = set(member.gives.values()) - set(self.labels.names)
            if strange:
                raise ValueError(f"member '{member.name}' gives '{min(strange)}', which is no label of the result")
            names.append(member.name)
        if self.rough is not None and self.rough.member not in names:
            raise ValueError(f"'{self.rough.member}', which looks roughly, is no member")
        if self.fast is not None and self.fast not in names:
            raise ValueError(f"'{self.fast}', which is fast, is no member")
        if not any(member.gives for member in self.members):
            raise ValueError("no member gives anything")
        if len(self.labels.items) > MOST_LABELS:
            raise ValueError(f"{len(self.labels.items)} labels; at most {MOST_LABELS} are possible")
        unknown = {name for rule in self.postprocessing for name in rule.labels} - set(self.labels.names)
        if unknown:
            raise ValueError(f"postprocessing of '{min(unknown)}', which is no label")
        if any(rule.on_model_grid for rule in self.postprocessing):
            raise ValueError("postprocessing on the model grid, and members have several; give it to a member's model")
        return self

    @property
    def at_work(self) -> tuple[Member, ...]:
        """The members that give something, and those whose results they ask for, in their order."""
        wanted: set[str] = set()
        for member in reversed(self.members):
            if member.gives or member.name in wanted:
                wanted |= {member.name, *member.needs}
        return tuple(member for member in self.members if member.name in wanted)


def only_labels(recipe: Recipe, names: Sequence[str], known_to_rough: Collection[str] = ()) -> Recipe:
    """Returns a recipe that gives some labels, in whose surroundings it looks where it has a rough member.

    Of two members that give some of these, the later one's other labels still lie on top of what the earlier one found,
    as in TotalSegmentator.

    Args:
        recipe: The recipe of more labels.
        names: Of labels or regions of the result.
        known_to_rough: The labels of the rough member's model.

    Raises:
        LabelError: A name is no label's, or there is none.
    """
    labels = recipe.labels
    regions = {region.name: region for region in labels.regions}
    unknown = [name for name in names if name not in (*labels.names, *regions)]
    if unknown or not names:
        what = f"'{unknown[0]}' is no label" if unknown else "no label is named"
        near = did_you_mean(unknown[0], [*labels.names, *regions]) if unknown else ""
        raise LabelError(f"--labels: {what}{near}; there are {', '.join([*labels.names, *regions])}")
    values = {value for name in names if name in regions for value in regions[name].values}
    items = tuple(item for item in labels.items if item.name in names or item.value in values)
    kept = {item.name for item in items}
    chosen = Labels(items=items, regions=tuple(region for name, region in regions.items() if name in names))
    members = [_giving_only(member, kept) for member in recipe.members]
    rules = tuple(rule for rule in recipe.postprocessing if set(rule.labels) <= kept)
    around = recipe.rough
    if around is not None and kept <= set(known_to_rough):
        crop = around.model_copy(update={"labels": tuple(sorted(kept))})
        start = next(i for i, member in enumerate(members) if member.name == around.member) + 1
        members[start:] = [
            member.model_copy(update={"crop": crop}) if member.crop is None else member for member in members[start:]
        ]
    update = {"labels": chosen, "members": tuple(members), "postprocessing": rules, "rough": None}
    return recipe.model_copy(update=update)


def _giving_only(member: Member, kept: Collection[str]) -> Member:
    """Returns a member that gives some labels of the result; if any, the others that it finds erase what was there."""
    gives = {own: name for own, name in member.gives.items() if name in kept}
    erases = (*member.erases, *(own for own in member.gives if own not in gives)) if gives else ()
    return member.model_copy(update={"gives": gives, "erases": erases})


def only_fast(recipe: Recipe, known: Collection[str]) -> Recipe:
    """Returns a recipe of which only the fast member gives something: all labels of the result.

    Args:
        recipe: The recipe.
        known: The labels of that member's model.

    Raises:
        ModelError: The member lacks labels.
    """
    lacking = [name for name in recipe.labels.names if name not in known]
    if lacking:
        raise ModelError(f"member '{recipe.fast}', which is fast, knows no '{lacking[0]}'")
    every = {name: name for name in recipe.labels.names}
    members = (
        member.model_copy(update={"gives": every if member.name == recipe.fast else {}}) for member in recipe.members
    )
    return recipe.model_copy(update={"members": tuple(members)})


def read_recipe(folder: Path) -> Recipe:
    """Returns the recipe of a model folder.

    Raises:
        ModelError: It is damaged, or of another format version.
    """
    file = folder / RECIPE
    version = read_object(file, COPY, ModelError).get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{file}: has format version {shown_value(version)}, medseg {VERSION} reads {FORMAT_VERSION}; "
            "install the medseg that made it"
        )
    return read_record(file, Recipe, COPY, ModelError)


def write_recipe(folder: Path, recipe: Recipe) -> Path:
    """Writes recipe.json of a model folder, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / RECIPE, recipe)
