"""What is known of a model of several members."""

from pathlib import Path

from medseg.inferers.model_card import ModelCard
from medseg.inferers.origin import Origin
from medseg.inferers.recipe import Member, read_recipe
from medseg.records import Record


class MemberCard(Record):
    """A member of a recipe.

    Attributes:
        name: Of the member.
        looks: Where, and at what, in words.
        gives: How many labels of the result.
        models: What is known of each of its models; probabilities of several are averaged.
    """

    name: str
    looks: str
    gives: int
    models: tuple[ModelCard, ...]


class RecipeCard(Record):
    """What is known of a model of several members.

    Attributes:
        model: Its folder.
        made_by: The program whose models these are; medseg where it is a user's own.
        medseg: The version of medseg that wrote it.
        origin: What is known of a model that medseg did not train.
        channels: Of the image.
        labels: Names of the labels by their value in masks.
        members: In the order in which they work.
        rough: The member around whose structures the others look, where only some labels are asked for; "" for none.
        fast: The member that works alone where somebody asks for masks sooner and less fine; "" for none.
        postprocessing: Rules for its masks, in words.
    """

    model: str
    made_by: str
    medseg: str
    origin: Origin | None
    channels: tuple[str, ...]
    labels: dict[int, str]
    members: tuple[MemberCard, ...]
    rough: str
    fast: str
    postprocessing: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> "RecipeCard":
        """Returns the card of a model folder with a recipe.json.

        Raises:
            ModelError: The recipe, or a model of a member, is damaged.
        """
        recipe = read_recipe(folder)
        members = tuple(
            MemberCard(
                name=member.name,
                looks=looks_in_words(member),
                gives=len(member.gives),
                models=tuple(ModelCard.of(folder / path) for path in member.models),
            )
            for member in recipe.members
        )
        return cls(
            model=str(folder),
            made_by="medseg" if recipe.origin is None else recipe.origin.program,
            medseg=recipe.medseg,
            origin=recipe.origin,
            channels=recipe.channels,
            labels={label.value: label.name for label in recipe.labels.items},
            members=members,
            rough="" if recipe.rough is None else recipe.rough.member,
            fast=recipe.fast or "",
            postprocessing=tuple(map(str, recipe.postprocessing)),
        )


def looks_in_words(member: Member) -> str:
    """Returns where a member looks, and what it sees of those before it."""

    def named(labels: tuple[str, ...]) -> str:
        return ", ".join(labels) or "all"

    crop, previous, within = member.crop, member.previous, member.within
    where = "everywhere"
    if crop is not None:
        where = f"within {crop.margin_mm:g} mm of the box of what {crop.member} found ({named(crop.labels)})"
    seen = "" if previous is None else f", sees what {previous.member} found ({named(previous.labels)})"
    kept = "" if within is None else f", keeps what lies within {within.margin_mm:g} mm of {named(within.labels)}"
    return where + seen + kept
