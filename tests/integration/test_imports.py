"""What commands import on the usual way, NIfTI in and NIfTI out: imports were half of the time of small data sets."""

import subprocess
import sys
from pathlib import Path

import pytest
from model_records import record_of
from parameters import mostly_slow

from medseg.inferers.model import save_model
from medseg.labels import Labels
from medseg.networks import build_network
from medseg.plan import Plan

# Libraries that take long to import, and what of torch and SciPy does; all of them have a use on some other way.
SELDOM = {
    "highdicom", "ignite", "matplotlib", "mlflow", "monai", "onnx", "openvino", "pandas", "scipy.optimize",
    "scipy.stats", "sklearn", "tensorboard", "tifffile", "torch._dynamo", "torch._inductor", "torch.onnx",
}  # fmt: skip
COMMANDS = {
    "inspect": ("inspect", "{images}", "--json"),
    "preprocess": ("preprocess", "{blobs}", "-o", "{work}/prepared"),
    "predict": ("predict", "{model}", "{images}", "-o", "{work}/masks", "--device", "cpu"),
    "evaluate": ("evaluate", "{labels}", "{labels}"),
}
NEVER = {  # worker processes among them, which share what measuring needs (medseg.parallel.PRELOADED)
    "inspect": SELDOM | {"torch", "skimage"},
    "preprocess": SELDOM | {"skimage"},
    "predict": SELDOM | {"pydicom.sr", "scipy.ndimage", "scipy.sparse", "scipy.spatial", "skimage"},
    "evaluate": SELDOM | {"torch"},
}


@pytest.fixture
def model(tmp_path: Path, tiny_plan: Plan) -> Path:
    """A model that learnt nothing."""
    record = record_of(tiny_plan, Labels.from_values([2]))
    save_model(tmp_path / "model", record, build_network(1, 2, tiny_plan.architecture).state_dict())
    return tmp_path / "model"


@pytest.mark.parametrize("command", mostly_slow(COMMANDS, "predict"))
def test_commands_import_what_they_use(command: str, blobs: Path, model: Path, tmp_path: Path) -> None:
    places = {"blobs": blobs, "images": blobs / "images", "labels": blobs / "labels", "model": model, "work": tmp_path}
    arguments = [argument.format(**places) for argument in COMMANDS[command]]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "medseg", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {row.rpartition("|")[2].strip() for row in rows}
    assert "medseg.volume" in imported  # the log of imports is there at all
    assert imported & NEVER[command] == set()
