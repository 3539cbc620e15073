"""The six datasets of benchmarks/datasets.py, each as a folder in nnU-Net's layout, which all tools read.

WORK/NAME/raw/        imagesTr/NAME_0000.nii.gz (.png), labelsTr/, dataset.json
          heldback/   the images of the cases that are not trained on
          prepared/   by 'medseg preprocess'
          split.json  the cases of both sides
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import medseg
from medseg.dataset.splits import Split, split_fold
from medseg.dataset.store import PreparedDataset
from medseg.io.nifti.writer import write_nifti
from medseg.phantom.anatomy import LABELS
from medseg.phantom.study_set import make_study_set

PATIENTS_DRAWN = 20  # of the abdomen


@dataclass(frozen=True)
class Source:
    """A dataset.

    Attributes:
        dims: Of the networks that are trained on it.
        folds: The first of so many parts is held back.
        channel: Its name, from which normalization follows.
        labels: Values by name.
        ending: Of its files.
        cases: From the folder of data: the name of a case and a function that writes its image and its label map.
    """

    dims: int
    folds: int
    channel: str
    labels: dict[str, int]
    ending: str
    cases: Callable[[Path], Iterator[tuple[str, Callable[[Path, Path], None]]]]


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset on disk, ready for all tools."""

    name: str
    folder: Path
    source: Source

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def heldback(self) -> Path:
        return self.folder / "heldback"

    @property
    def split(self) -> Split:
        content = json.loads((self.folder / "split.json").read_text())
        return Split(tuple(content["training"]), tuple(content["validation"]))


def made(name: str, data: Path, work: Path) -> DatasetFolder:
    """Makes a dataset, unless it is there; whole or not at all."""
    dataset = DatasetFolder(name, work / name, SOURCES[name])
    if (dataset.folder / "split.json").is_file():
        return dataset
    shutil.rmtree(dataset.folder, ignore_errors=True)
    images, labels = (dataset.raw / part for part in ("imagesTr", "labelsTr"))
    images.mkdir(parents=True)
    labels.mkdir()
    source, n = dataset.source, 0
    for case, write in source.cases(data):
        write(images / f"{case}_0000{source.ending}", labels / f"{case}{source.ending}")
        n += 1
    record = {
        "channel_names": {"0": source.channel},
        "labels": {"background": 0, **source.labels},
        "numTraining": n,
        "file_ending": source.ending,
    }
    (dataset.raw / "dataset.json").write_text(json.dumps(record, indent=1))
    medseg.preprocess(dataset.raw, dataset.prepared)
    split = _split(PreparedDataset(dataset.prepared), source.folds)
    if len(split.training) + len(split.validation) != n:
        raise SystemExit(f"{name}: {n} cases were made, and medseg prepared {len(split.training + split.validation)}")
    dataset.heldback.mkdir()
    for case in split.validation:
        image = f"{case}_0000{source.ending}"
        os.link(images / image, dataset.heldback / image)
    written = {"training": split.training, "validation": split.validation}
    (dataset.folder / "split.json").write_text(json.dumps(written, indent=1))
    return dataset


def _split(prepared: PreparedDataset, folds: int) -> Split:
    """Returns the split of 'medseg train --set training.folds=FOLDS': by patients, labels on both sides."""
    groups = {case_id: case.group for case_id, case in prepared.cases.items()}
    present = {
        case_id: frozenset(name for name, ml in case.volumes_ml.items() if ml > 0)
        for case_id, case in prepared.cases.items()
    }
    return split_fold(groups, 0, folds, present)


def _hippocampus(data: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    folder = data / "hippocampus"
    for path in sorted((folder / "imagesTr").glob("[!.]*.nii.gz")):
        yield path.name.removesuffix(".nii.gz"), _copied(path, folder / "labelsTr" / path.name)


def _sarcoma(modality: str) -> Callable[[Path], Iterator[tuple[str, Callable[[Path, Path], None]]]]:
    def cases(data: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
        for path in sorted((data / "sarcoma" / "nifti").glob(f"*/{modality}_image.nii.gz")):
            yield path.parent.name, _copied(path, path.with_name(f"{modality}_mask.nii.gz"))

    return cases


def _membrane(data: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    """Cells are white in the files; what is to be found are the membranes between them."""
    for path in sorted((data / "membrane" / "images").glob("*.png")):
        yield f"slice{int(path.stem):02d}", _picture(path, data / "membrane" / "labels" / path.name, lambda v: v == 0)


def _nuclei(data: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    """Each object has a value of its own in the files; all are one label. Images without any are left out."""
    folder = data / "nuclei_dsb2018" / "fluorescence"
    for path in sorted((folder / "images").glob("*.png")):
        label = folder / "labels" / path.name
        if np.asarray(Image.open(label)).any():
            yield f"image_{path.stem}", _picture(path, label, lambda v: v > 0)


def _abdomen(data: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    """medseg's phantom, scanned as DICOM."""
    with TemporaryDirectory() as temporary:
        studies = make_study_set(Path(temporary), n_train=PATIENTS_DRAWN, n_test=0, seed=0).train
        for label in sorted((studies / "labels").glob("*.nii.gz")):
            case = label.name.removesuffix(".nii.gz")
            yield case, _study(studies / "images" / case, label)


def _copied(image: Path, label: Path) -> Callable[[Path, Path], None]:
    def write(image_output: Path, label_output: Path) -> None:
        shutil.copy(image, image_output)
        shutil.copy(label, label_output)

    return write


def _picture(image: Path, label: Path, foreground: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], None]:
    def write(image_output: Path, label_output: Path) -> None:
        Image.open(image).convert("L").save(image_output)
        Image.fromarray(foreground(np.asarray(Image.open(label))).astype(np.uint8)).save(label_output)

    return write


def _study(image: Path, label: Path) -> Callable[[Path, Path], None]:
    def write(image_output: Path, label_output: Path) -> None:
        volume = medseg.read_volume(image)
        reference = medseg.read_volume(label).oriented_as(volume.geometry.orientation)
        write_nifti(image_output, volume.array[0], volume.geometry)
        write_nifti(label_output, reference.label_map, volume.geometry)

    return write


SOURCES = {
    "hippocampus": Source(3, 5, "MR", {"Anterior": 1, "Posterior": 2}, ".nii.gz", _hippocampus),
    "sarcoma-ct": Source(3, 3, "CT", {"tumour": 1}, ".nii.gz", _sarcoma("CT")),
    "sarcoma-mr": Source(3, 3, "MR", {"tumour": 1}, ".nii.gz", _sarcoma("MR_T1")),
    "membrane": Source(2, 4, "EM", {"membrane": 1}, ".png", _membrane),
    "nuclei": Source(2, 5, "fluorescence", {"nucleus": 1}, ".png", _nuclei),
    "abdomen": Source(3, 4, "CT", LABELS, ".nii.gz", _abdomen),
}
