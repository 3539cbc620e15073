"""The tutorials, followed word by word: every block of theirs is run, in their order, in one folder."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from doc_pages import TWO_STEPS, blocks
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.phantom.study_set import make_study_set

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIALS = REPOSITORY / "docs" / "getting-started"

# What makes it fast, and worse.
SHORT = {"medseg demo\n": "medseg demo --max-time 8s\n", "--max-time 10m": "--max-time 8s",
         "--max-time 20m": "--max-time 12s"}  # fmt: skip


def follow(page: Path, folder: Path, *, times: int) -> None:
    """Runs the shell blocks of a tutorial; ``times`` is how many of its words were made shorter."""
    for block in blocks(page.read_text(encoding="utf-8")):
        text = block
        for long, short in SHORT.items():
            times -= text.count(long)
            text = text.replace(long, short)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            env=_env(),
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert times == 0


def _env() -> dict[str, str]:
    """With a ``medseg`` on the path that is this one."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_the_tutorial_for_monai_users(tmp_path: Path) -> None:
    """Its Python blocks are one program. The demo's studies are enough: it trains its own network."""
    make_study_set(tmp_path / "medseg-demo" / "studies", n_train=3, n_test=1)
    page = (TUTORIALS / "monai-user.md").read_text(encoding="utf-8")
    program = [sys.executable, "-c", "\n".join(blocks(page, "python"))]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "HD95 in mm" in done.stdout
    assert (tmp_path / "unseen_01.nii.gz").is_file()


@pytest.mark.slow
def test_the_tutorials_of_the_command_line(tmp_path: Path) -> None:
    assert shutil.which("medseg", path=_env()["PATH"])
    follow(TUTORIALS / "dicom-to-mask.md", tmp_path, times=1)
    assert (tmp_path / "masks" / "unseen_01.nii.gz").is_file()
    assert (tmp_path / "masks" / "unseen_01.seg.dcm").is_file()
    assert (tmp_path / "metrics" / "report.html").is_file()
    assert (tmp_path / "scene.mrb").is_file()
    follow(TUTORIALS / "train-on-your-data.md", tmp_path, times=2)
    assert (tmp_path / "run" / "validation" / "metrics.json").is_file()
    assert len(list((tmp_path / "new_masks").glob("unseen_*.nii.gz"))) == 3
    assert (tmp_path / "abdomen.zip").is_file()


@pytest.mark.slow
def test_the_tutorials_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, which imports everything once; two steps of training each."""
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "how-to" / "pictures.md").read_text(encoding="utf-8").partition("## Four of them")[2]
    for program in blocks(text, "python"):
        Path(program.splitlines()[0].removeprefix("# ")).write_text(program)
    trained = 0
    for line in "".join(blocks(text)).splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True, timeout=120)
            continue
        assert program == "medseg"
        if arguments[0] == "train":
            assert "--max-time 10m" in line
            at = arguments.index("--max-time")
            arguments[at : at + 2] = TWO_STEPS
            trained += 1
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    assert trained == 4
    with tifffile.TiffFile(tmp_path / "fields_masks" / "00.tif") as mask:
        assert mask.pages[0].tags[33550].value == (10.0, 10.0, 0.0)  # its place on Earth
    with tifffile.TiffFile(tmp_path / "slide_masks" / "0.tif") as mask:
        assert mask.pages[0].shape == (512, 640)
