"""The inputs that mutations begin with: a tiny one of each kind, drawn with other libraries than medseg's own, and the
files of one tiny run of medseg. The same bytes every time, but for the dates in what medseg writes."""

import json
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import gdcm
import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
import tifffile
import yaml
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import dicom_drawn
import drawn_study

SHAPE = drawn_study.SHAPE
SPACING = drawn_study.SPACING
AFFINE = np.diag((-2.0, 2.0, 3.0, 1.0))
AFFINE[:3, 3] = (7.5, -4.25, 11.0)
STUDY, FRAME_OF_REFERENCE = "1.3.2", "1.2.3.4"


@dataclass(frozen=True)
class Seed:
    """A folder, and the file in it that mutations change."""

    kind: str
    folder: Path
    target: Path  # relative to the folder


def draw_seeds(place: Path) -> list[Seed]:
    """All of them, each in a folder of its own below ``place``."""
    numbers = count(1)
    dicom_drawn.generate_uid = lambda: generate_uid(entropy_srcs=[str(next(numbers))])  # the same every time
    seeds = []
    for kind, draw in {**IMAGES, **OBJECTS, **LISTS}.items():
        folder = place / kind
        folder.mkdir(parents=True)
        seeds += [Seed(kind, folder / name, Path(target)) for name, target in draw(folder)]
    return [*seeds, *draw_records(place / "records")]


Drawn = Iterator[tuple[str, str]]  # a folder that was made, and the target in it


def _voxels(n_channels: int = 0) -> np.ndarray:
    """int16 (x, y, z), or (x, y, z, channel)."""
    random = np.random.default_rng(0)
    shape = SHAPE if not n_channels else (*SHAPE, n_channels)
    return random.integers(-200, 900, shape).astype(np.int16)


def _nifti(folder: Path) -> Drawn:
    images = {
        "short/image.nii": nibabel.Nifti1Image(_voxels(), AFFINE),
        "scaled/image.nii": nibabel.Nifti1Image(_voxels(), AFFINE),
        "packed/image.nii.gz": nibabel.Nifti1Image(_voxels().astype(np.float32), AFFINE),
        "channels/image.nii": nibabel.Nifti1Image(_voxels(2), AFFINE),
        "flat/image.nii": nibabel.Nifti1Image(_voxels()[..., 0], AFFINE),
        "second/image.nii": nibabel.Nifti2Image(_voxels(), AFFINE),
        "pair/image.hdr": nibabel.Nifti1Pair(_voxels(), AFFINE),
    }
    images["scaled/image.nii"].header.set_slope_inter(0.5, -3)
    for name, image in images.items():
        path = folder / name
        path.parent.mkdir()
        image.header.set_xyzt_units("mm")
        image.set_sform(AFFINE, 1)
        image.set_qform(AFFINE, 1)
        nibabel.save(image, path)
        yield path.parent.name, path.name


def _itk_image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING[: array.ndim])
    image.SetOrigin(drawn_study.CORNER[: array.ndim])
    return image


def _nrrd(folder: Path) -> Drawn:
    for name, packed in (("raw/image.nrrd", False), ("packed/image.nrrd", True), ("apart/image.nhdr", False)):
        (folder / name).parent.mkdir()
        sitk.WriteImage(_itk_image(_voxels()), str(folder / name), useCompression=packed)
        yield tuple(name.split("/"))
    (folder / "pynrrd").mkdir()
    header = {
        "space": "left-posterior-superior", "space directions": np.diag(SPACING), "space origin": drawn_study.CORNER,
        "encoding": "raw",
    }  # fmt: skip
    nrrd.write(str(folder / "pynrrd" / "image.nrrd"), _voxels(), header)
    yield "pynrrd", "image.nrrd"


def _mha(folder: Path) -> Drawn:
    for name, packed in (("raw", False), ("packed", True)):
        (folder / name).mkdir()
        sitk.WriteImage(_itk_image(_voxels()), str(folder / name / "image.mha"), useCompression=packed)
        yield name, "image.mha"


def _mhd(folder: Path) -> Drawn:
    for name, packed in (("raw", False), ("packed", True)):
        (folder / name).mkdir()
        sitk.WriteImage(_itk_image(_voxels()), str(folder / name / "image.mhd"), useCompression=packed)
        yield name, "image.mhd"


def _pictures(folder: Path, suffix: str, *modes: str) -> Drawn:
    grey = (np.indices((14, 18)).sum(axis=0) * 7 % 256).astype(np.uint8)
    pixels = {
        "L": grey, "RGB": np.stack([grey, grey.T[:14, :14].repeat(2, axis=1)[:, :18], 255 - grey], axis=-1),
        "I;16": grey.astype(np.uint16) * 200,
    }  # fmt: skip
    for mode in modes:
        path = folder / mode.replace(";", "") / f"image{suffix}"
        path.parent.mkdir()
        # Decoders differ in how they make as many values of colour as of brightness.
        Image.fromarray(pixels[mode]).save(path, **({"subsampling": 0} if suffix == ".jpg" else {}))
        yield path.parent.name, path.name


def _tiff(folder: Path) -> Drawn:
    yield from _pictures(folder, ".tif", "L", "RGB", "I;16")
    for name, options in (("pages", {}), ("packed", {"compression": "zlib"}), ("tiles", {"tile": (16, 16)})):
        (folder / name).mkdir()
        pages = (_voxels().T % 255).astype(np.uint16)
        tifffile.imwrite(folder / name / "image.tif", pages, photometric="minisblack", **options)
        yield name, "image.tif"


def write_series(folder: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """A CT series on the grid of ``drawn_study``, a file a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(SHAPE[2]):
        header = _header(CTImageStorage, f"slice {k}")
        header.Modality, header.SeriesInstanceUID = "CT", drawn_study.SERIES
        header.InstanceNumber, header.SliceThickness = k + 1, SPACING[2]
        header.ImagePositionPatient = [*drawn_study.CORNER[:2], drawn_study.CORNER[2] + SPACING[2] * k]
        header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING[1], SPACING[0]]
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        _store(header, (_voxels()[:, :, k].T + 1024).astype(np.uint16), syntax)
        header.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def _header(sop_class: str, name: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    header.PatientID, header.PatientName, header.StudyInstanceUID = "P1", "P^1", STUDY
    header.StudyDate, header.StudyID, header.SeriesNumber, header.StudyTime = "20250101", "1", 1, "120000"
    header.FrameOfReferenceUID, header.SeriesDescription = FRAME_OF_REFERENCE, "Abdomen"
    return header


def _store(header: Dataset, stored: np.ndarray, syntax: str) -> None:
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.Rows, header.Columns = stored.shape[-2:]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelData = stored.tobytes()
    if syntax != ExplicitVRLittleEndian:
        header.compress(syntax, stored, generate_instance_uid=False)


def _dicom(folder: Path) -> Drawn:
    write_series(folder / "series")
    yield "series", "2.dcm"


def _packed_dicom(folder: Path) -> Drawn:
    write_series(folder / "rle", RLELossless)
    yield "rle", "2.dcm"
    for name, syntax in (("jpeg", "JPEGLosslessProcess14_1"), ("jpeg2000", "JPEG2000Lossless")):
        _recode(write_series(folder / name), getattr(gdcm.TransferSyntax, syntax))
        yield name, "2.dcm"


def _recode(folder: Path, syntax: int) -> None:
    """Every file in the folder, by gdcm."""
    for path in folder.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()


def _enhanced(folder: Path) -> Drawn:
    header = _header(EnhancedMRImageStorage, "enhanced")
    header.Modality, header.SeriesInstanceUID, header.InstanceNumber = "MR", "1.3.3", 1
    header.NumberOfFrames = SHAPE[2]
    measures = dicom_drawn.dataset(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=SPACING[2])
    orientation = dicom_drawn.dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    values = dicom_drawn.dataset(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="US")
    header.SharedFunctionalGroupsSequence = [
        dicom_drawn.dataset(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[orientation],
            PixelValueTransformationSequence=[values],
        )
    ]
    header.PerFrameFunctionalGroupsSequence = [
        dicom_drawn.dataset(
            PlanePositionSequence=[
                dicom_drawn.dataset(
                    ImagePositionPatient=[*drawn_study.CORNER[:2], drawn_study.CORNER[2] + k * SPACING[2]]
                )
            ],
            FrameContentSequence=[dicom_drawn.dataset(StackID="1", InStackPositionNumber=k + 1)],
        )
        for k in range(SHAPE[2])
    ]
    stored = np.moveaxis(_voxels(), -1, 0).transpose(0, 2, 1) + 1024
    _store(header, np.ascontiguousarray(stored.astype(np.uint16)), ExplicitVRLittleEndian)
    (folder / "one").mkdir()
    header.save_as(folder / "one" / "image.dcm", enforce_file_format=True)
    yield "one", "image.dcm"


def _seg(folder: Path) -> Drawn:
    for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
        write_series(folder / kind.lower() / "ct")
        drawn_study.write_frames(folder / kind.lower() / "organs.dcm", kind)
        yield kind.lower(), "organs.dcm"


def _rtstruct(folder: Path) -> Drawn:
    write_series(folder / "study" / "ct")
    drawn_study.write_contours(folder / "study" / "plan.dcm")
    yield "study", "plan.dcm"


def _seg_nrrd(folder: Path) -> Drawn:
    (folder / "organs").mkdir()
    drawn_study.write_seg_nrrd(folder / "organs" / "organs.seg.nrrd")
    yield "organs", "organs.seg.nrrd"


def _dicomdir(folder: Path) -> Drawn:
    series = write_series(folder.parent / "listed")
    listed = FileSet()
    for path in sorted(series.iterdir()):
        listed.add(pydicom.dcmread(path))
    listed.write(folder / "disc")
    yield "disc", "DICOMDIR"


def _archive(suffix: str, mode: str) -> Callable[[Path], Drawn]:
    def draw(folder: Path) -> Drawn:
        series = write_series(folder.parent / f"packed{suffix}")
        (folder / "study").mkdir()
        path = folder / "study" / f"ct{suffix}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) if not mode else tarfile.open(path, mode) as archive:
            add = archive.write if isinstance(archive, zipfile.ZipFile) else archive.add
            for file in sorted(series.iterdir()):
                add(file, f"ct/{file.name}")
        yield "study", path.name

    return draw


def write_cases(folder: Path, n_cases: int, names: str = "images/{}.nii.gz labels/{}.nii.gz") -> Path:
    """Images with a bright ball and a brighter one in it, label values 2 and 5."""
    random = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (16, 14, 12)), indexing="ij"))
    for case in range(n_cases):
        distance = np.linalg.norm(grid - random.uniform(5.5, 7.5, 3)[:, None, None, None], axis=0)
        label_map = np.where(distance < 2.5, 5, np.where(distance < 5, 2, 0)).astype(np.uint8)
        image = (100 + 60 * (label_map == 2) + 140 * (label_map == 5) + random.normal(0, 12, (16, 14, 12))).astype(
            "<i2"
        )
        for name, array in zip(names.split(), (image, label_map), strict=True):
            path = folder / name.format(f"case_{case}")
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag((-1.0, -1.0, 2.0, 1.0))), path)
    return folder


def _dataset_json(folder: Path) -> Drawn:
    nnunet = write_cases(folder / "nnunet", 3, "imagesTr/{}_0000.nii.gz labelsTr/{}.nii.gz")
    content = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "whole": [2, 5], "core": 5}, "numTraining": 3,
        "regions_class_order": [2, 5], "file_ending": ".nii.gz",
    }  # fmt: skip
    (nnunet / "dataset.json").write_text(json.dumps(content))
    yield "nnunet", "dataset.json"
    decathlon = write_cases(folder / "decathlon", 3, "imagesTr/{}.nii.gz labelsTr/{}.nii.gz")
    content = {
        "name": "x", "modality": {"0": "MRI"}, "labels": {"0": "background", "2": "ball", "5": "core"},
        "training": [
            {"image": f"./imagesTr/case_{i}.nii.gz", "label": f"./labelsTr/case_{i}.nii.gz"} for i in range(3)
        ],
        "test": [],
    }  # fmt: skip
    (decathlon / "dataset.json").write_text(json.dumps(content))
    yield "decathlon", "dataset.json"


def _cases_csv(folder: Path) -> Drawn:
    listed = write_cases(folder / "listed", 3)
    rows = [f"case_{i},images/case_{i}.nii.gz,labels/case_{i}.nii.gz,p{i}" for i in range(3)]
    (listed / "cases.csv").write_text("\n".join(["case_id,image,label,group", *rows, ""]))
    yield "listed", "cases.csv"


def _config(folder: Path) -> Drawn:
    from medseg.config import Config

    (folder / "whole").mkdir()
    (folder / "whole" / "config.yaml").write_text(Config().to_yaml())
    yield "whole", "config.yaml"
    (folder / "short").mkdir()
    content = {"training": {"max_time": "1h30m", "fold": "all"}, "network": {"name": "unet", "features": [8, 16]}}
    (folder / "short" / "config.yaml").write_text(yaml.safe_dump(content))
    yield "short", "config.yaml"


IMAGES: dict[str, Callable[[Path], Drawn]] = {
    "nifti": _nifti,
    "nrrd": _nrrd,
    "mha": _mha,
    "mhd": _mhd,
    "png": lambda folder: _pictures(folder, ".png", "L", "RGB", "I;16"),
    "tiff": _tiff,
    "jpeg": lambda folder: _pictures(folder, ".jpg", "L", "RGB"),
    "dicom": _dicom,
    "packed dicom": _packed_dicom,
    "enhanced dicom": _enhanced,
    "zip": _archive(".zip", ""),
    "tar": _archive(".tar", "w"),
    "tar.gz": _archive(".tar.gz", "w:gz"),
}
OBJECTS: dict[str, Callable[[Path], Drawn]] = {"seg": _seg, "rtstruct": _rtstruct, "seg.nrrd": _seg_nrrd}
LISTS: dict[str, Callable[[Path], Drawn]] = {
    "dicomdir": _dicomdir, "dataset.json": _dataset_json, "cases.csv": _cases_csv, "config": _config
}  # fmt: skip
RECORDS = {
    "prepared dataset.json": "prepared/dataset.json",
    "plan.json": "prepared/plan.json",
    "fingerprint.json": "prepared/fingerprint.json",
    "image.npy": "prepared/cases/case_1/image.npy",
    "run.json": "run/run.json",
    "log.csv": "run/log.csv",
    "checkpoint": "run/checkpoint/last.safetensors",
    "model.json": "run/model/model.json",
    "weights": "run/model/weights.safetensors",
    "predictions.json": "masks/predictions.json",
    "metrics.json": "metrics/metrics.json",
}


def draw_records(folder: Path) -> list[Seed]:
    """The files of one tiny run: data, prepared/, run/, masks/ and metrics/."""
    import medseg
    from medseg.config import load

    write_cases(folder / "data", 5)
    small = ["training.epochs=2", "training.steps_per_epoch=2", "planning.cpu_base_features=4", "training.batch_size=2"]
    config = load(overrides=[*small, "preprocessing.workers=1"])
    medseg.preprocess(folder / "data", folder / "prepared", config=config)
    medseg.train(folder / "prepared", folder / "run", config=config, device="cpu")
    medseg.predict(folder / "run", folder / "data" / "images", folder / "masks", device="cpu", backend="torch")
    medseg.evaluate(folder / "masks", folder / "data" / "labels", folder / "metrics", workers=1)
    return [Seed(kind, folder, Path(target)) for kind, target in RECORDS.items()]
