"""medseg models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.json_output import print_json
from medseg.progress import listed

if TYPE_CHECKING:
    from rich.console import Console

    from medseg.inferers.model_card import ModelCard
    from medseg.inferers.origin import Origin
    from medseg.inferers.recipe_card import RecipeCard
    from medseg.workflows.models import FoundModel

SHOW = "show"
MOST_NAMED = 6


def models(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER]... | show MODEL",
            help="Folders to look in [default: here, and where nnU-Net and TotalSegmentator keep theirs]; or 'show' "
            "and a run or model folder.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Lists the models on this disk: who made them, what they segment, their licence; with 'show' all of one.

    Trained folders of nnU-Net are listed too; 'medseg import' makes models of them. Nothing is downloaded.

    Examples:

        medseg models

        medseg models show run
    """
    from rich.console import Console

    from medseg.errors import ConfigError
    from medseg.inferers.model_card import ModelCard
    from medseg.workflows.models import list_models, model_card

    console = Console(highlight=False)
    if what and what[0] == SHOW:
        if len(what) != 2:
            raise ConfigError("medseg models show: needs one model")
        card = model_card(what[1])
        if as_json:
            print_json(card.as_json())
        else:
            _show(_facts(card) if isinstance(card, ModelCard) else _facts_of_recipe(card), console)
        return
    found = list_models([Path(folder) for folder in what or ()])
    if as_json:
        print_json([each.as_json() for each in found])
    else:
        _table(found, console)


def _table(found: "tuple[FoundModel, ...]", console: "Console") -> None:
    from rich import box
    from rich.table import Table

    if not found:
        console.print("No models here; give folders to look in")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for name in ("model", "by", "segments", "licence", "folder"):
        table.add_column(name, overflow="fold")
    for each in found:
        by = each.program if each.is_medseg else f"{each.program}, to import"
        table.add_row(each.name, by, listed(each.structures, MOST_NAMED), each.licence or "not said", each.path)
    console.print(table, markup=False)


def _show(facts: list[tuple[str, str]], console: "Console") -> None:
    for name, value in facts:
        console.print(f"{name:>16}  {value}", markup=False)


def _facts(card: "ModelCard") -> list[tuple[str, str]]:
    """Returns what is known, with a name for each: only what somebody said or measured."""
    origin = card.origin
    facts = [("model", card.model), ("made by", card.made_by), *_facts_of_origin(origin)]
    facts += [
        ("network", f"{card.dims}D {card.network}; {card.parameters / 1e6:.2f} million parameters"),
        ("networks", str(card.networks)),
        ("windows", "×".join(map(str, card.patch_size)) + " voxels"),
        ("spacing", "×".join("own" if mm is None else f"{mm:.3g}" for mm in card.spacing) + " mm"),
        ("axes", "as in the file" if card.orientation == "stored" else card.orientation),
    ]
    for channel in card.channels:
        usual = "" if channel.usual is None else f"; usually {channel.usual[0]:.4g} to {channel.usual[1]:.4g}"
        facts.append(("channel", f"{channel.name}: {channel.normalization}{usual}"))
    facts.append(("labels", ", ".join(f"{value} {name}" for value, name in card.labels.items())))
    facts += [("region", f"{name}: {', '.join(labels)}") for name, labels in card.regions.items()]
    facts.append(("training cases", "not said" if card.training_cases is None else str(card.training_cases)))
    for each in card.measured:
        dice = "in no case" if each.dice is None else f"{each.dice:.4f}"
        cases = "" if each.cases is None else f", {each.cases} cases"
        facts.append(("mean Dice", f"{each.label}: {dice} (by {each.by}{cases})"))
    facts += [("postprocessing", rule) for rule in card.postprocessing]
    facts += [
        (name.replace("_", " "), str(value))
        for name, value in card.provenance.items()
        if name != "training_cases" and value not in (None, [])
    ]
    facts += [("note", note) for note in (() if origin is None else origin.notes)]
    return facts


def _facts_of_origin(origin: "Origin | None") -> list[tuple[str, str]]:
    if origin is None:
        return []
    said = ("dataset", "description", "reference", "licence", "release")
    facts = [(name, getattr(origin, name)) for name in said if getattr(origin, name)]
    return [*facts, *([] if origin.licence else [("licence", "not said")]), *origin.details.items()]


def _facts_of_recipe(card: "RecipeCard") -> list[tuple[str, str]]:
    """Returns what is known of a model of several members; a line for each of them."""
    facts = [("model", card.model), ("made by", card.made_by), *_facts_of_origin(card.origin)]
    facts += [("channel", name) for name in card.channels]
    facts.append(("labels", ", ".join(f"{value} {name}" for value, name in card.labels.items())))
    for member in card.members:
        spacings = ["×".join("own" if mm is None else f"{mm:.3g}" for mm in model.spacing) for model in member.models]
        gives = f"gives {member.gives} labels" if member.gives else "only helps others"
        facts.append(("member", f"{member.name}: {' and '.join(spacings)} mm, looks {member.looks}; {gives}"))
    if card.rough:
        facts.append(("some labels", f"are looked for around what {card.rough} found of them"))
    if card.fast:
        facts.append(("--fast", f"only {card.fast} works"))
    facts += [("postprocessing", rule) for rule in card.postprocessing]
    return facts + [("note", note) for note in (() if card.origin is None else card.origin.notes)]
