"""What messages say: the cause, and a remedy that exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from monai.transforms import Compose

import medseg
from medseg.cli.main import app
from medseg.config import known_keys
from medseg.errors import GeometryError, MedsegError, SourceError, cause_of, defect, of_the_machine, reading
from medseg.parallel import run_in_workers

PACKAGE = Path(medseg.__file__).parent
COMMAND = typer.main.get_command(app)
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in COMMAND.commands.items()
}
OF_ALL = {"--debug", "--version", "--help"}
# Of programs that are called, or that messages tell to run: monai.bundle, 3D Slicer, dcmdjpeg; and names of colours.
OF_OTHERS = {
    "--bundle_root", "--config_file", "--input_dir", "--output_dir",
    "--python-script", "--raw", "--text", "--accent", "--problem", "--quiet",
    # Of jobs, torchrun and Dask's workers.
    "--account", "--cpus-per-task", "--gres", "--job-name", "--kill-on-bad-exit",
    "--mem", "--nnodes", "--nproc-per-node", "--ntasks-per-node", "--nthreads",
    "--open-mode", "--output", "--parsable", "--partition", "--qos",
    "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--requeue", "--shutdown-timeout",
    "--signal", "--time",
}  # fmt: skip


@cache
def texts() -> list[tuple[str, str]]:
    """Each text in the code, with where it stands; what is filled in is …"""
    return list(texts_of_files())


def texts_of_files() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield where, "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield where, node.value


def test_commands_that_messages_name_exist() -> None:
    named = [(where, name) for where, text in texts() for name in re.findall(r"'medseg ([a-z][a-z-]*)", text)]
    assert len(named) > 20
    assert [each for each in named if each[1] not in OPTIONS] == []


def test_options_that_messages_name_exist() -> None:
    everything = set().union(*OPTIONS.values()) | OF_ALL | OF_OTHERS
    wrong = []
    for where, text in texts():
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text):
            if option not in everything:
                wrong.append((where, option))
        for command, rest in re.findall(r"'medseg ([a-z][a-z-]*)([^']*)'", text):
            of_command = OPTIONS.get(command, set()) | OF_ALL
            wrong += [
                (where, f"{command} {o}") for o in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest) if o not in of_command
            ]
    assert wrong == []


def test_settings_that_messages_name_exist() -> None:
    sections = "|".join({key.partition(".")[0] for key in known_keys()})
    pattern = rf"(?<![\w./])(?:{sections})\.[a-z_]+(?![\w/(])"
    named = [(where, key) for where, text in texts() if " " in text for key in re.findall(pattern, text)]
    others = {"preprocessing.restoring", "network.onnx", "network.json", "loss.ndim", "network.encoder"}  # files, names
    assert [each for each in named if each[1] not in {*known_keys(), *others}] == []


def test_messages_that_are_explained_exist() -> None:
    """What docs/how-to/messages.md explains; … stands for what is filled in."""
    page = (PACKAGE.parent / "docs" / "how-to" / "messages.md").read_text("utf-8")
    messages = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)[2:]
    assert len(messages) > 25
    said = "\n".join(text for _, text in texts()).casefold()
    for message in messages:
        for part in message.split("…"):
            assert part.strip(" .;:").casefold() in said, message


def failing(error: Exception) -> Exception:
    """As MONAI raises it from a list of transforms."""

    def fail(data: object) -> object:
        raise error

    with pytest.raises(RuntimeError) as caught:
        Compose([fail])({"image": 1})
    return caught.value


def test_the_cause_is_told_and_not_the_wrapper() -> None:
    wrapped = failing(GeometryError("the grids differ; give another"))
    assert "applying transform" in str(wrapped)
    assert str(cause_of(wrapped)) == "the grids differ; give another"
    assert "ValueError: no such axis" in defect(failing(ValueError("no such axis")))
    assert "too little memory" in of_the_machine(failing(MemoryError()))

    def fail(_: int) -> None:
        raise failing(SourceError("x.nii: is empty; leave it out"))

    (outcome,) = run_in_workers(fail, [1], workers=1)
    assert (outcome.error, outcome.is_defect) == ("x.nii: is empty; leave it out", False)


def test_a_message_names_the_path_once(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    with pytest.raises(SourceError) as caught, reading(path, "NIfTI"):
        raise OSError(f"Expected 960 bytes, got 595 bytes from {path}\n - could the file be damaged?")
    assert str(caught.value) == (
        f"{path}: truncated, damaged or not NIfTI (Expected 960 bytes, got 595 bytes); copy or export it again"
    )


@pytest.mark.parametrize("name", ["a.nii", "a.png", "a.mha", "a.nrrd", "a.tif", "a.dcm", "a.zip"])
def test_no_reader_names_the_path_twice(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MedsegError) as caught:
        medseg.read_volume(path)
    assert str(caught.value).count(str(path)) == 1
