"""medseg doctor: what it tells, and that its self-test finds what is broken."""

import getpass
import json
import platform
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import medseg
from medseg.cli.main import app
from medseg.diagnosis import EXTRAS
from medseg.phantom import self_test


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def failures(steps: Sequence[dict[str, str]]) -> list[str]:
    return [step["name"] for step in steps if step["problem"]]


def test_it_tells_what_an_issue_needs() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    for word in (medseg.__version__, platform.python_version(), torch.__version__, "monai", "memory", "disk", "cores"):
        assert word in done.output
    assert done.output.count("passed in") == len(self_test.SELF_TEST)
    assert socket.gethostname() not in done.stdout
    assert f"/{getpass.getuser()}/" not in done.stdout


def test_json_has_all_of_it() -> None:
    content = json.loads(run("--json", "--no-self-test").stdout)
    assert content["medseg"] == medseg.__version__
    assert content["packages"]["torch"] == torch.__version__
    assert content["extras"]["test"]
    assert content["self_test"] == []
    assert 0 < content["free_memory_mb"] <= content["memory_mb"]


def test_each_extra_is_told_by_a_package_of_its_own() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"dev", "peers"}
    for extra, package in EXTRAS.items():
        assert [name for name, needed in extras.items() if any(each.startswith(f"{package}>") for each in needed)] == [
            extra
        ]


def test_a_network_that_computes_rubbish_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.device.Device.place", lambda self, network, dims: torch.nn.Conv3d(1, 6, 1))
    done = run("--json")
    assert done.exit_code == 1
    steps = json.loads(done.stdout)["self_test"]
    assert failures(steps) == ["run a network"]
    assert steps[-1]["name"] == "run a network"  # what comes after it was not tried


def test_a_writer_that_writes_rubbish_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, segmented: object) -> list[Path]:
        np.save(path.with_suffix(".npy"), np.zeros(1))
        path.with_suffix(".npy").rename(path)
        return [path]

    formats = {**self_test.FORMATS}
    nifti = formats["nifti"]
    formats["nifti"] = type(nifti)(**{**nifti.__dict__, "write": write})
    monkeypatch.setattr(self_test, "FORMATS", formats)
    done = run()
    assert done.exit_code == 1
    assert "FAILED: " in done.stdout
    assert "mask.nii.gz" in done.stdout
