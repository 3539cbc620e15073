"""The command line as such: what it says about itself, and that saying so is quick."""

import subprocess
import sys

import pytest

import medseg
from medseg.cli.main import main

HEAVY = {"torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "skimage", "matplotlib"}
COMMANDS = ["demo", "preprocess", "train", "predict", "evaluate", "export"]


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "medseg", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that were imported on the way."""
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {row.rpartition("|")[2].strip().partition(".")[0] for row in rows}


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command))
def test_help_comes_without_heavy_imports(command: list[str]) -> None:
    done = ask(*command, "--help")
    assert done.returncode == 0
    assert "typer" in imported(done)  # the log of imports is there at all
    assert imported(done) & HEAVY == set()
    expected = COMMANDS if not command else ["--output", "Example:", f"medseg {command[0]}"]
    assert [word for word in expected if word not in done.stdout] == []


def test_version_and_no_command() -> None:
    assert ask("--version").stdout.strip() == f"medseg {medseg.__version__}"
    nothing = ask()
    assert nothing.returncode == 2
    assert all(name in nothing.stdout for name in COMMANDS)


def test_wrong_use_is_told_without_heavy_imports() -> None:
    wrong = ask("train", "prepared", "-o", "run", "--set", "training.lr=1")
    assert wrong.returncode == 1
    assert "did you mean 'training.learning_rate'" in wrong.stderr
    assert imported(wrong) & {"torch", "monai"} == set()
    misspelt = ask("preproces")
    assert misspelt.returncode == 2
    assert "preprocess" in misspelt.stderr


def test_ctrl_c_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medseg.workflows.export.export", interrupted)
    monkeypatch.setattr(sys, "argv", ["medseg", "export", "mask.nii.gz", "-o", "out.nii.gz"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert "Interrupted" in capsys.readouterr().err
