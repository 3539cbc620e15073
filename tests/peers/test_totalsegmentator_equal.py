"""TotalSegmentator's tasks around networks with drawn weights: medseg's label maps against those of the program itself.

It is the Python at MEDSEG_TOTALSEG, else that of ``totalseg`` beside the checkout's parent; an environment with
TotalSegmentator 2.18.0. The program adds float16 numbers up, and resamples in float64: where two labels are about as
likely, either may win.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from totalsegmentator_weights import write_weights

import medseg
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.interop.totalsegmentator.importer import import_totalsegmentator
from medseg.interop.totalsegmentator.tasks import read_tasks
from medseg.transforms.prepared import prepare

PYTHON = Path(
    os.environ.get("MEDSEG_TOTALSEG", Path(__file__).resolve().parents[2].parent / "totalseg" / "bin" / "python")
)
RUNS = Path(__file__).with_name("totalsegmentator_runs.py")
TABLES = read_tasks()
SAME = 0.995  # of the voxels


class Run(NamedTuple):
    """What is asked of both."""

    task: str
    fast: bool = False
    labels: tuple[str, ...] = ()


RUNS_OF_BOTH = {
    "3 mm": Run("total", fast=True),
    "some structures, around what a rough model finds": Run("total", labels=("spleen", "aorta", "rib_left_5")),
    "vertebrae": Run("vertebrae_body"),
    "the body, without its small pieces": Run("body"),
    "the body, of 6 mm": Run("body", fast=True),
    "vessels around what a rough model finds, by nnU-Net's own resampling": Run("liver_vessels"),
    "cysts around several organs": Run("kidney_cysts"),
}
WEIGHTS = [
    ("total", "default"), ("total", "fast"), ("total", "fastest"), ("vertebrae_body", "default"), ("body", "default"),
    ("body", "fast"), ("liver_vessels", "default"), ("kidney_cysts", "default"),
]  # fmt: skip
# What the model of 6 mm finds in hardly any voxel, so that a box around it is smaller than the image.
RARE = ("liver", "spleen", "aorta", "rib_left_5")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.is_file(), reason=f"no TotalSegmentator at {PYTHON}; set MEDSEG_TOTALSEG to its Python")
def test_label_maps_are_those_of_the_program(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)  # the program computes in float32
    scan = part_of_a_scan(real_data, tmp_path / "scan.nii.gz")
    home = home_of_the_program(tmp_path / "home", scan)
    label_maps = by_the_program(home, scan)
    wrong = []
    for number, (name, run) in enumerate(RUNS_OF_BOTH.items()):
        model = tmp_path / f"model_{number}"
        import_totalsegmentator(home, model, run.task, "fast" if run.fast else "default")
        (prediction,) = medseg.predict(model, scan, device="cpu", backend="torch", labels=run.labels or None)
        ours, theirs = prediction.label_map.array[0], label_maps[name]
        same, labels = np.mean(ours == theirs), np.unique(theirs)
        print(f"{name}: {same:.5f} of the voxels are the same; {len(labels)} labels, {np.mean(theirs > 0):.3f} of it")
        if same < SAME or len(labels) < 2:
            wrong.append(f"{name}: {same:.5f} of the voxels are the same; labels {labels}, here {np.unique(ours)}")
    assert not wrong, "\n".join(wrong)


def part_of_a_scan(data: Path, path: Path) -> Path:
    """A part of a CT of a leg, its axes pointing to P, S and L."""
    image = nibabel.load(data / "sarcoma" / "nifti" / "STS_003" / "CT_image.nii.gz")
    part = image.slicer[20:132, 30:140, 10:40]
    turned = part.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    values = np.asarray(turned.dataobj).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, turned.affine), path)
    return path


def home_of_the_program(home: Path, scan: Path) -> Path:
    """Weights of all tasks whose labels each occur in a scan, and a program that sends no statistics."""
    said = {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0}
    home.mkdir()
    (home / "config.json").write_text(json.dumps(said | {"statistics_disclaimer_shown": True}))
    for task, speed in WEIGHTS:
        write_weights(home, task, speed)
    for task, speed in WEIGHTS:
        # What is to be rare is so by little: first, logits are brought to a size at which 16 bits tell it.
        for again in range(2 if speed == "fastest" else 1):
            model = home / f"unbalanced-{task}-{speed}-{again}"
            import_totalsegmentator(home, model, task, speed)
            balance(home, model, task, speed, scan)
    return home


def balance(home: Path, model: Path, task: str, speed: str, scan: Path) -> None:
    """Changes the last layer of a task's models so that many labels occur, and logits have a deviation of 1."""
    for dataset in TABLES.tasks[task].variants[speed].datasets:
        loaded = load_model(model / TABLES.short_name(dataset), choose_device("cpu", "fp32"))
        image = prepare(medseg.read_volume(scan), None, loaded.record.plan.grid).image
        logits = predict_logits(loaded.network, image, loaded.record.plan, loaded.record.inference, loaded.device)
        mean = logits.mean((1, 2, 3))
        logits -= mean[:, None, None, None]
        spread = logits.std()
        logits /= spread
        more = torch.zeros(len(logits))
        more[0] = 1.5 if len(logits) > 4 else 0.3  # background
        asked = [i for i, name in enumerate(loaded.record.labels.names, start=1) if name in RARE]
        if speed == "fastest":
            more -= seldom(logits + more[:, None, None, None], asked)
        else:
            more[asked] += 1.5
        (file,) = (home / "nnunet" / "results" / TABLES.datasets[dataset]).glob("*/fold_0/checkpoint_final.pth")
        content = torch.load(file, weights_only=False)
        weights = content["network_weights"]
        bias = [name for name in weights if "seg_layers" in name and name.endswith("bias")][-1]
        weights[bias] = (weights[bias] - mean) / spread + more
        weights[bias.replace("bias", "weight")] /= spread
        torch.save(content, file)


def seldom(logits: torch.Tensor, rare: list[int]) -> torch.Tensor:
    """Returns what is to be taken from the logits so that some outputs win in few voxels only, each in others.

    In two of them they win by more than the program's sums in 16 bits may hide.
    """
    others = [i for i in range(len(logits)) if i not in rare]
    best = logits[others].amax(0)
    less = torch.zeros(len(logits))
    for i in rare:
        most = (logits[i] - best).flatten().topk(3).values
        less[i] = torch.minimum(most[1:].mean(), most[1] - 0.1 * logits.std())
        best[logits[i] - less[i] > best] = torch.inf
    return less


def by_the_program(home: Path, scan: Path) -> dict[str, np.ndarray]:
    """Returns the label maps of the program itself."""
    outputs = {name: home / "program" / f"{number}.nii.gz" for number, name in enumerate(RUNS_OF_BOTH)}
    runs = [
        {
            "image": str(scan),
            "output": str(outputs[name]),
            "task": run.task,
            "fast": run.fast,
            "roi_subset": [*run.labels] or None,
        }
        for name, run in RUNS_OF_BOTH.items()
    ]
    (home / "runs.json").write_text(json.dumps(runs))
    environment = os.environ | {"TOTALSEG_HOME_DIR": str(home), "nnUNet_compile": "f"}
    for name in ("TOTALSEG_WEIGHTS_PATH", "PYTHONPATH"):
        environment.pop(name, None)
    done = subprocess.run(
        [PYTHON, RUNS, home / "runs.json"], env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return {name: np.asarray(nibabel.load(path).dataobj) for name, path in outputs.items()}
