"""What the command line says of errors that nobody expected."""

import errno
import sys

import pytest

from medseg.cli import main as command_line


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fails)
    monkeypatch.setattr(sys, "argv", ["medseg", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    return int(stop.value.code or 0)


def test_a_defect_is_one_line_and_status_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, KeyError("cases"), "evaluate") == 3
    told = capsys.readouterr().err
    assert told.startswith("Error: a defect of medseg, not of your data (KeyError: 'cases'")
    assert "please report it" in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "too little memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "too little memory"),
        (OSError(errno.ENOSPC, "No space left on device", "masks/a.nii.gz"), "masks/a.nii.gz: No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    assert run(monkeypatch, error, "evaluate") == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 1])
def test_debug_shows_where_and_why(place: int, tmp_path, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    import subprocess

    (tmp_path / "x.yaml").write_text("training: {epochs: 2024-13-45}")
    arguments = ["preprocess", str(tmp_path), "-o", str(tmp_path / "out"), "--config", str(tmp_path / "x.yaml")]
    arguments.insert(place * len(arguments), "--debug")
    done = subprocess.run([sys.executable, "-m", "medseg", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: month must be in 1..12" in done.stderr and "Traceback" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("Error: ")
