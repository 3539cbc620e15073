"""What the help of each command shows is what was written: no mark of Markdown is swallowed."""

import inspect
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from medseg.cli.help import command_name, escaped
from medseg.cli.main import COMMANDS, app

WIDE = {"COLUMNS": "3000", "TERM": "dumb"}  # each text stays on its line


def written(function: object) -> Iterator[str]:
    """Docstring and help texts of a command's function, paragraph by paragraph."""
    yield from (inspect.getdoc(function) or "").split("\n\n")
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if text := parameter.annotation.__metadata__[0].help:
            yield text


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--help"], env=WIDE)
    assert done.exit_code == 0
    return " ".join(done.output.split())


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_help_texts_are_shown_as_they_are_written(function: object) -> None:
    output = shown(command_name(function))  # type: ignore[arg-type]
    assert [text for text in written(function) if " ".join(text.split()) not in output] == []


def test_the_list_of_commands_shows_what_they_do() -> None:
    output = shown()
    for function in COMMANDS:
        first = (inspect.getdoc(function) or "").split("\n\n")[0]
        assert " ".join(first.split()) in output


@pytest.mark.parametrize("name", ["preprocess", "predict"])
def test_patterns_keep_their_stars(name: str) -> None:
    assert "'*/CT_image.nii.gz'" in shown(name)


def test_code_is_not_escaped() -> None:
    assert escaped("Takes *.nii.\n\n    medseg x '*.nii'") == "Takes \\*.nii.\n\n    medseg x '*.nii'"
    assert escaped("1. first\n- second") == "1\\. first\n\\- second"
