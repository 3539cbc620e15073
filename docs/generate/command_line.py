"""reference/command-line.md, from the commands themselves."""

import re
from typing import Any

import typer

from medseg.cli.help import command_name
from medseg.cli.main import COMMANDS, app

INTRODUCTION = """# Command line

`medseg COMMAND --help` shows what stands here. All commands take `--debug`, which shows where an error came about.
[From Python](../how-to/index.md#from-python) each command is a function.

The exit status is 0 when all is done, 1 when something in the input was wrong (the rest is done), 2 when the command
itself was, and 3 for a defect of medseg.
"""


def files() -> dict[str, str]:
    """Returns the page by its path on the site."""
    group: Any = typer.main.get_command(app)
    sections = [_section(name, group.commands[name]) for name in map(command_name, COMMANDS)]
    return {"reference/command-line.md": "\n".join([INTRODUCTION, *sections])}


def _section(name: str, command: Any) -> str:
    context = typer.Context(command)
    usage = " ".join(command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
    rows = [_row(parameter, context) for parameter in command.params if getattr(parameter, "help", None)]
    table = ["| argument or option | value | what it does |", "| --- | --- | --- |", *rows]
    return "\n".join([f"## medseg {name}", "", f"    medseg {name} {usage}", "", command.help or "", "", *table, ""])


def _row(parameter: Any, context: typer.Context) -> str:
    is_option = parameter.param_type_name == "option"
    is_flag = is_option and parameter.is_flag
    flags = sorted([*parameter.opts, *parameter.secondary_opts], key=lambda flag: flag.startswith("--no-"))
    name = ", ".join(f"`{flag}`" for flag in flags) if is_option else f"`{flags[0]}`"
    value = "" if is_flag else f"`{(parameter.display_type_rich(ctx=context) or '').strip('<>')}`"
    text = parameter.help
    if parameter.required and is_option:
        text += " Needed."
    if is_option and not is_flag and parameter.default not in (None, ()):
        text += f" Default: `{parameter.default}`."
    return f"| {_cell(name)} | {_cell(value)} | {_cell(text)} |"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
