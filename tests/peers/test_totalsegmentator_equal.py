"""TotalSegmentator's tasks around networks with drawn weights: medseg's label maps against those of the program itself.

MEDSEG_TOTALSEG is the Python of an environment with TotalSegmentator (default: /work/totalseg/bin/python, if that is
there). The program uses nnU-Net with float16 sums, and float64 where it resamples: where two labels are about as
likely, either may win.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from totalsegmentator_weights import write_weights

import medseg
from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.inferers.recipe_model import load_any
from medseg.interop.totalsegmentator.importer import import_totalsegmentator
from medseg.interop.totalsegmentator.tasks import read_tasks
from medseg.io.discover import source_of
from medseg.prediction.case_predictor import CasePredictor
from medseg.transforms.prepared import prepare

PYTHON = Path(os.environ.get("MEDSEG_TOTALSEG", "/work/totalseg/bin/python"))
RUNS = Path(__file__).with_name("totalsegmentator_runs.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="no TotalSegmentator; set MEDSEG_TOTALSEG to a Python that has it"),
]

# task, speed, what is asked for
CASES = {
    "3mm": ("total", "fast", None),
    "parts": ("total", "default", ["spleen", "aorta", "rib_left_5", "vertebrae_L1"]),
    "crop": ("liver_vessels", "default", None),
    "robust": ("lung_vessels", "default", None),
}
WEIGHTS = [
    ("total", "default"),
    ("total", "fast"),
    ("total", "fastest"),
    ("liver_vessels", "default"),
    ("lung_vessels", "default"),
]


# What rough models are to find in a few voxels only, so that boxes around it are no whole images.
RARE = ("liver", *CASES["parts"][2], *read_tasks().tasks["lung_vessels"].crop.labels)


def balance(home: Path, model: Path, task: str, speed: str, scan: Path, rare: Sequence[str]) -> None:
    """Changes the last biases of a task's models, so that all labels occur, and rare ones in a few voxels only."""
    tables = read_tasks()
    for dataset in tables.tasks[task].variants[speed].datasets:
        loaded = load_model(model / tables.short_name(dataset), choose_device("cpu", "fp32"))
        plan, image = loaded.record.plan, prepare(medseg.read_volume(scan), None, loaded.record.plan.grid).image
        logits = predict_logits(loaded.network, image, plan, loaded.record.inference, loaded.device)
        shift = logits.mean((1, 2, 3))
        logits = logits - shift[:, None, None, None]
        shift[0] -= 1.5 * logits.std()  # mostly background
        logits[0] += 1.5 * logits.std()
        for name in rare:
            label = loaded.record.labels.names.index(name) + 1
            others = torch.cat([logits[:label], logits[label + 1 :]]).amax(0)
            surest = (logits[label] - others).flatten().sort(descending=True).values[:6]
            at = 1 + int((surest[1:-1] - surest[2:]).argmax())  # where the gap is widest
            above = (surest[at] + surest[at + 1]) / 2
            shift[label] += above
            logits[label] -= above
        (file,) = (home / "nnunet" / "results" / tables.datasets[dataset]).glob("*/fold_0/checkpoint_final.pth")
        content = torch.load(file, weights_only=False)
        names = [name for name in content["network_weights"] if "seg_layers" in name and name.endswith("bias")]
        content["network_weights"][names[-1]] -= shift
        torch.save(content, file)


@pytest.fixture(scope="module")
def scan(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a CT of a leg, its axes pointing to P, S and L."""
    image = nibabel.load(real_data / "sarcoma" / "nifti" / "STS_003" / "CT_image.nii.gz")
    part = image.slicer[20:132, 30:140, 10:40]
    turned = part.as_reoriented([[2, -1], [0, 1], [1, -1]])
    values = np.asarray(turned.dataobj).astype(np.int16)
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, turned.affine), path)
    return path


@pytest.fixture(scope="module")
def home(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    config = {
        "totalseg_id": "none",
        "send_usage_stats": False,
        "prediction_counter": 0,
        "statistics_disclaimer_shown": True,
    }
    (home / "config.json").write_text(json.dumps(config))
    for task, speed in WEIGHTS:
        write_weights(home, task, speed)
    for i, (task, speed) in enumerate(WEIGHTS):
        import_totalsegmentator(home, home / f"model_{i}", task, speed)
        balance(home, home / f"model_{i}", task, speed, scan, RARE if speed in ("fast", "fastest") else ())
    return home


@pytest.fixture(scope="module")
def by_the_program(home: Path, scan: Path) -> Path:
    """The label maps of the program itself, by name of the case."""
    runs = [
        {"image": str(scan), "output": str(home / "program" / f"{name}.nii.gz"), "task": task, "fast": speed == "fast",
         "roi_subset": wanted}
        for name, (task, speed, wanted) in CASES.items()
    ]  # fmt: skip
    (home / "runs.json").write_text(json.dumps(runs))
    environment = os.environ | {"TOTALSEG_HOME_DIR": str(home), "nnUNet_compile": "f"}
    environment.pop("TOTALSEG_WEIGHTS_PATH", None)
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [PYTHON, RUNS, home / "runs.json"], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return home / "program"


@pytest.mark.parametrize("name", CASES)
def test_the_label_maps_are_those_of_the_program(name: str, home: Path, scan: Path, by_the_program: Path) -> None:
    task, speed, wanted = CASES[name]
    model = home / f"imported-{name}"
    import_totalsegmentator(home, model, task, speed)
    loaded = load_any([model], choose_device("cpu", "fp32"), wanted)  # the program computes in float32
    prediction = CasePredictor(loaded, None, InferenceConfig()).predict(Case("scan", (source_of(scan),)))
    ours, theirs = prediction.label_map.label_map, np.asarray(nibabel.load(by_the_program / f"{name}.nii.gz").dataobj)
    labels = np.unique(theirs)
    assert len(labels) > 2
    print(name, "labels", len(labels), "foreground", (theirs > 0).mean(), "equal", (ours == theirs).mean())
    assert (ours == theirs).mean() > 0.995
