"""demo: the whole way on synthetic studies, as a user would go it with real ones."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.config import Config, load
from medseg.device import Device, choose_device
from medseg.errors import OutputError
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.worst import worst_first
from medseg.files import ensure_folder
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_volume
from medseg.phantom.study_set import StudySet, make_study_set
from medseg.pictures.overlay import plot_overlay
from medseg.prediction.result import PredictResult
from medseg.progress import say
from medseg.workflows.evaluate import evaluate
from medseg.workflows.export import export
from medseg.workflows.predict import predict
from medseg.workflows.preprocess import preprocess
from medseg.workflows.train import train

TRAINING_STUDIES = 16
UNSEEN_STUDIES = 3
# Leaves room for making studies, importing, predicting and evaluating within four minutes on two cores.
MAX_TIME = "160s"


@dataclass(frozen=True)
class DemoResult:
    """Where everything is, and how well the unseen studies were segmented."""

    folder: Path
    evaluation: Evaluation
    overlay: Path
    image: Path  # of one unseen study, as NIfTI
    mask: Path  # predicted for it
    seconds: float
    steps: int  # of training
    dims: Literal[2, 3]

    @property
    def dice(self) -> dict[str, float]:
        """The mean Dice of each structure over the unseen studies."""
        labels = self.evaluation.summary.labels
        return {name: labels[name].metrics["dice"].mean or 0.0 for name in labels}


def demo(
    output: str | Path = "medseg-demo",
    *,
    dims: Literal[2, 3] = 3,
    max_time: str = MAX_TIME,
    device: str = "auto",
    seed: int = 0,
) -> DemoResult:
    """Makes synthetic abdominal CT studies in DICOM, trains on some and segments the others.

    Args:
        output: An empty folder, or one that is not there yet.
        dims: 2 or 3.
        max_time: Of the training, such as "2m".
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        seed: Of the studies and of the training.

    Raises:
        OutputError: ``output`` is not empty.
    """
    start = time.monotonic()
    folder = ensure_folder(Path(output))
    if any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; choose another folder with -o")
    config = _config(max_time, seed, dims, choose_device(device))
    say("1/6 Making synthetic abdominal CT studies (DICOM)")
    studies = make_study_set(folder / "studies", n_train=TRAINING_STUDIES, n_test=UNSEEN_STUDIES, seed=seed)
    say("2/6 medseg preprocess")
    preprocess(studies.train, folder / "prepared")
    say(f"3/6 medseg train --dims {dims} --max-time {max_time}")
    trained = train(folder / "prepared", folder / "run", dims=dims, config=config, device=device)
    say("4/6 medseg predict, on studies that were not trained on")
    predicted = predict(folder / "run", studies.test_images, folder / "masks", device=device)
    say("5/6 medseg evaluate")
    evaluation = evaluate(folder / "masks", studies.test_labels, folder / "metrics")
    say("6/6 medseg export, and pictures")
    image, mask = _show_worst(folder, studies, predicted, evaluation)
    seconds = time.monotonic() - start
    return DemoResult(folder, evaluation, folder / "overlay.png", image, mask, seconds, trained.steps, dims)


def _config(max_time: str, seed: int, dims: Literal[2, 3], device: Device) -> Config:
    """Returns what suits two minutes of a processor: a narrow network, small patches and batches, and twice the usual
    rate.

    Many steps teach more than few large ones (benchmarks/README.md, "Demo").
    """
    settings = [f"training.max_time={max_time}", f"training.seed={seed}"]
    if not device.is_cuda:
        settings += ["planning.cpu_base_features=8", "planning.cpu_patch_voxels=32768", "training.learning_rate=0.02"]
        settings += ["training.batch_size=12"] if dims == 2 else []
    return load(overrides=settings)


def _show_worst(folder: Path, studies: StudySet, predicted: PredictResult, evaluation: Evaluation) -> tuple[Path, Path]:
    """Exports and draws the study that was segmented worst, which says more than the best."""
    there = {prediction.case_id for prediction in predicted}
    case_id = next(case for case in worst_first(evaluation.records) if case in there)
    study = studies.test_images / case_id
    volume = read_volume(study)
    image = folder / "export" / f"{case_id}_image.nii.gz"
    write_nifti(image, volume.array[0], volume.geometry)
    export(
        folder / "masks" / f"{case_id}.nii.gz",
        folder / "export" / f"{case_id}_masks",
        like=study,
        format="nifti-per-label",
    )
    mask = folder / "export" / f"{case_id}_mask.nii.gz"
    export(folder / "masks" / f"{case_id}.nii.gz", mask, like=study)
    reference = read_volume(studies.test_labels / f"{case_id}.nii.gz").oriented_as(volume.geometry.orientation)
    plot_overlay(
        volume,
        read_volume(mask).label_map,
        predicted.labels,
        folder / "overlay.png",
        reference=reference.label_map,
        title=f"{case_id}: prediction (colour) and reference (white)",
    )
    return image, mask
