"""Layouts that public datasets have, as tiny folders: what is paired, which channels and labels, which patients."""

from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medseg.dataset.cases import CaseList
from medseg.dataset.layouts import find_cases

SHAPE = (6, 5, 4)
Pairs = dict[str, tuple[str, ...]]  # images, then label maps, by case id


@dataclass(frozen=True)
class Layout:
    """``images`` and ``label_maps`` are drawn at their paths; the rest has to be found."""

    images: tuple[str, ...]
    label_maps: tuple[str, ...]
    expected: Pairs
    channels: tuple[str, ...] = ("image",)
    groups: dict[str, str] = field(default_factory=dict)  # of the cases that names group
    json: str = ""  # dataset.json, below its folder
    labels: tuple[str, ...] = ()  # names, where files tell them
    patterns: tuple[str | tuple[str, ...], str] | None = None  # --images and --labels that find the same pairs


TWO = ("1", "2")
GLI = ("BraTS-GLI-00002-000", "BraTS-GLI-00002-001", "BraTS-GLI-00003-000")
LAYOUTS = {
    "bids": Layout(
        tuple(f"sub-0{n}/anat/sub-0{n}_{kind}.nii.gz" for n in TWO for kind in ("FLAIR", "T1w")),
        tuple(f"derivatives/manual/sub-0{n}/anat/sub-0{n}_label-lesion_mask.nii.gz" for n in TWO),
        {
            f"sub-0{n}": (
                f"sub-0{n}/anat/sub-0{n}_FLAIR.nii.gz",
                f"sub-0{n}/anat/sub-0{n}_T1w.nii.gz",
                f"derivatives/manual/sub-0{n}/anat/sub-0{n}_label-lesion_mask.nii.gz",
            )
            for n in TWO
        },
        channels=("FLAIR", "T1w"),
        patterns=(
            ("FLAIR=*/anat/*_FLAIR.nii.gz", "T1w=*/anat/*_T1w.nii.gz"),
            "derivatives/manual/*/anat/*_label-lesion_mask.nii.gz",
        ),
    ),
    "bids with sessions": Layout(
        tuple(f"sub-0{n}/ses-{s}/anat/sub-0{n}_ses-{s}_T2w.nii.gz" for n in TWO for s in "ab"),
        tuple(f"derivatives/sub-0{n}/ses-{s}/anat/sub-0{n}_ses-{s}_dseg.nii.gz" for n in TWO for s in "ab"),
        {
            f"sub-0{n}_ses-{s}": (
                f"sub-0{n}/ses-{s}/anat/sub-0{n}_ses-{s}_T2w.nii.gz",
                f"derivatives/sub-0{n}/ses-{s}/anat/sub-0{n}_ses-{s}_dseg.nii.gz",
            )
            for n in TWO
            for s in "ab"
        },
        channels=("T2w",),
        groups={f"sub-0{n}_ses-{s}": f"sub-0{n}" for n in TWO for s in "ab"},
        patterns=("sub-{case}/ses-{visit}/anat/*.nii.gz", "derivatives/sub-{case}/ses-{visit}/anat/*.nii.gz"),
    ),
    "ATLAS": Layout(
        tuple(f"R001/sub-r001s00{n}/ses-1/anat/sub-r001s00{n}_ses-1_space-MNI_T1w.nii.gz" for n in TWO),
        tuple(
            f"R001/sub-r001s00{n}/ses-1/anat/sub-r001s00{n}_ses-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz"
            for n in TWO
        ),
        {
            f"sub-r001s00{n}_ses-1": (
                f"R001/sub-r001s00{n}/ses-1/anat/sub-r001s00{n}_ses-1_space-MNI_T1w.nii.gz",
                f"R001/sub-r001s00{n}/ses-1/anat/sub-r001s00{n}_ses-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz",
            )
            for n in TWO
        },
        channels=("T1w",),
        patterns=("R001/*/ses-1/anat/*_T1w.nii.gz", "R001/*/ses-1/anat/*_label-L_desc-T1lesion_mask.nii.gz"),
    ),
    "ISLES 2022": Layout(
        tuple(
            f"rawdata/sub-strokecase000{n}/ses-0001/sub-strokecase000{n}_ses-0001_{kind}.nii.gz"
            for n in TWO
            for kind in ("adc", "dwi")
        ),
        tuple(
            f"derivatives/sub-strokecase000{n}/ses-0001/sub-strokecase000{n}_ses-0001_msk.nii.gz" for n in TWO
        ),
        {
            f"sub-strokecase000{n}_ses-0001": (
                *(
                    f"rawdata/sub-strokecase000{n}/ses-0001/sub-strokecase000{n}_ses-0001_{kind}.nii.gz"
                    for kind in ("adc", "dwi")
                ),
                f"derivatives/sub-strokecase000{n}/ses-0001/sub-strokecase000{n}_ses-0001_msk.nii.gz",
            )
            for n in TWO
        },
        channels=("adc", "dwi"),
        patterns=("rawdata/{case}/ses-0001/*_{channel}.nii.gz", "derivatives/{case}/ses-0001/*_msk.nii.gz"),
    ),
    "VerSe": Layout(
        tuple(f"rawdata/sub-verse00{n}/sub-verse00{n}_ct.nii.gz" for n in TWO),
        tuple(f"derivatives/sub-verse00{n}/sub-verse00{n}_seg-vert_msk.nii.gz" for n in TWO),
        {
            f"sub-verse00{n}": (
                f"rawdata/sub-verse00{n}/sub-verse00{n}_ct.nii.gz",
                f"derivatives/sub-verse00{n}/sub-verse00{n}_seg-vert_msk.nii.gz",
            )
            for n in TWO
        },
        channels=("ct",),
        patterns=("rawdata/*/*_ct.nii.gz", "derivatives/*/*_seg-vert_msk.nii.gz"),
    ),
    "TotalSegmentator": Layout(
        tuple(f"s000{n}/ct.nii.gz" for n in TWO),
        tuple(f"s000{n}/segmentations/{name}.nii.gz" for n in TWO for name in ("kidney_left", "liver")),
        {
            f"s000{n}": (
                f"s000{n}/ct.nii.gz",
                f"s000{n}/segmentations/kidney_left.nii.gz",
                f"s000{n}/segmentations/liver.nii.gz",
            )
            for n in TWO
        },
        labels=("kidney_left", "liver"),
        patterns=("{case}/ct.nii.gz", "{case}/segmentations/{structure}.nii.gz"),
    ),
    "structures by the names of cases": Layout(
        tuple(f"case_{n}.nii.gz" for n in TWO),
        tuple(f"case_{n}_{name}.nii.gz" for n in TWO for name in ("kidney", "liver")),
        {
            f"case_{n}": (f"case_{n}.nii.gz", f"case_{n}_kidney.nii.gz", f"case_{n}_liver.nii.gz") for n in TWO
        },
        labels=("kidney", "liver"),
    ),
    "structures in case folders": Layout(
        tuple(f"set/c{n}/ct.nii.gz" for n in TWO),
        tuple(f"set/c{n}/{name}_mask.nii.gz" for n in TWO for name in ("kidney", "liver")),
        {
            f"set_c{n}": (f"set/c{n}/ct.nii.gz", f"set/c{n}/kidney_mask.nii.gz", f"set/c{n}/liver_mask.nii.gz")
            for n in TWO
        },
        labels=("kidney", "liver"),
        patterns=("set/{case}/ct.nii.gz", "set/{case}/{structure}_mask.nii.gz"),
    ),
    "a folder of structures a case (medseg's own)": Layout(
        tuple(f"images/c{n}.nii.gz" for n in TWO),
        tuple(f"labels/c{n}/{name}.nii.gz" for n in TWO for name in ("kidney", "liver")),
        {f"c{n}": (f"images/c{n}.nii.gz", f"labels/c{n}/kidney.nii.gz", f"labels/c{n}/liver.nii.gz") for n in TWO},
        labels=("kidney", "liver"),
        patterns=("images/{case}.nii.gz", "labels/{case}/{structure}.nii.gz"),
    ),
    "img and label (BTCV)": Layout(
        (*(f"RawData/Training/img/img000{n}.nii.gz" for n in TWO), "RawData/Testing/img/img0061.nii.gz"),
        ("RawData/Training/label/label0001.nii.gz", "RawData/Training/label/label0002.nii.gz"),
        {
            f"000{n}": (f"RawData/Training/img/img000{n}.nii.gz", f"RawData/Training/label/label000{n}.nii.gz")
            for n in TWO
        },
        patterns=("RawData/Training/img/img*.nii.gz", "RawData/Training/label/label*.nii.gz"),
    ),
    "train and val": Layout(
        tuple(f"{part}/images/{n}.png" for part in ("train", "val") for n in TWO),
        tuple(f"{part}/masks/{n}.png" for part in ("train", "val") for n in TWO),
        {
            "1": ("train/images/1.png", "train/masks/1.png"),
            "2": ("train/images/2.png", "train/masks/2.png"),
            "val_1": ("val/images/1.png", "val/masks/1.png"),
            "val_2": ("val/images/2.png", "val/masks/2.png"),
        },
        patterns=("*/images/*.png", "*/masks/*.png"),
    ),
    "A and LABEL_A": Layout(
        tuple(f"{folder}/p{n}.nii.gz" for folder in "AB" for n in TWO),
        tuple(f"LABEL_{folder}/p{n}_gt.nii.gz" for folder in "AB" for n in TWO),
        {
            "p1": ("A/p1.nii.gz", "LABEL_A/p1_gt.nii.gz"),
            "p2": ("A/p2.nii.gz", "LABEL_A/p2_gt.nii.gz"),
            "b_p1": ("B/p1.nii.gz", "LABEL_B/p1_gt.nii.gz"),
            "b_p2": ("B/p2.nii.gz", "LABEL_B/p2_gt.nii.gz"),
        },
        patterns=("{part}/{case}.nii.gz", "LABEL_{part}/{case}_gt.nii.gz"),
    ),
    "AMOS": Layout(
        ("imagesTr/amos_0001.nii.gz", "imagesVa/amos_0008.nii.gz", "imagesTs/amos_0002.nii.gz"),
        ("labelsTr/amos_0001.nii.gz", "labelsVa/amos_0008.nii.gz"),
        {
            "amos_0001": ("imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz"),
            "amos_0008": ("imagesVa/amos_0008.nii.gz", "labelsVa/amos_0008.nii.gz"),
        },
        channels=("CT",),
        json="""dataset.json {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"},
            "training": [{"image": "./imagesTr/amos_0001.nii.gz", "label": "./labelsTr/amos_0001.nii.gz"}],
            "validation": [{"image": "./imagesVa/amos_0008.nii.gz", "label": "./labelsVa/amos_0008.nii.gz"}],
            "test": [{"image": "./imagesTs/amos_0002.nii.gz", "label": "./labelsTs/amos_0002.nii.gz"}]}""",
        labels=("spleen",),
    ),
    "AMOS without its dataset.json": Layout(
        ("imagesTr/amos_0001.nii.gz", "imagesVa/amos_0008.nii.gz", "imagesTs/amos_0002.nii.gz"),
        ("labelsTr/amos_0001.nii.gz", "labelsVa/amos_0008.nii.gz"),
        {
            "amos_0001": ("imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz"),
            "amos_0008": ("imagesVa/amos_0008.nii.gz", "labelsVa/amos_0008.nii.gz"),
        },
        patterns=("images{part}/*.nii.gz", "labels{part}/*.nii.gz"),
    ),
    "nnU-Net one level down": Layout(
        tuple(f"nnUNet_raw/Dataset001_A/imagesTr/a_{n}_000{c}.nii.gz" for n in TWO for c in (0, 1)),
        tuple(f"nnUNet_raw/Dataset001_A/labelsTr/a_{n}.nii.gz" for n in TWO),
        {
            f"a_{n}": (
                f"nnUNet_raw/Dataset001_A/imagesTr/a_{n}_0000.nii.gz",
                f"nnUNet_raw/Dataset001_A/imagesTr/a_{n}_0001.nii.gz",
                f"nnUNet_raw/Dataset001_A/labelsTr/a_{n}.nii.gz",
            )
            for n in TWO
        },
        channels=("T1", "T2"),
        json="""nnUNet_raw/Dataset001_A/dataset.json {"channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "liver": 1}, "numTraining": 2, "file_ending": ".nii.gz"}""",
        labels=("liver",),
    ),
    "BraTS 2015": Layout(
        tuple(
            f"HGG/brats_tcia_pat10{n}_0001/VSD.Brain.XX.O.MR_{kind}.3559{n}/VSD.Brain.XX.O.MR_{kind}.3559{n}.mha"
            for n in TWO
            for kind in ("Flair", "T1c")
        ),
        tuple(
            f"HGG/brats_tcia_pat10{n}_0001/VSD.Brain_3more.XX.O.OT.4228{n}/VSD.Brain_3more.XX.O.OT.4228{n}.mha"
            for n in TWO
        ),
        {
            f"HGG_brats_tcia_pat10{n}_0001": (
                *(
                    f"HGG/brats_tcia_pat10{n}_0001/VSD.Brain.XX.O.MR_{kind}.3559{n}/VSD.Brain.XX.O.MR_{kind}.3559{n}.mha"
                    for kind in ("Flair", "T1c")
                ),
                f"HGG/brats_tcia_pat10{n}_0001/VSD.Brain_3more.XX.O.OT.4228{n}/VSD.Brain_3more.XX.O.OT.4228{n}.mha",
            )
            for n in TWO
        },
        channels=("Flair", "T1c"),
        groups={f"HGG_brats_tcia_pat10{n}_0001": f"brats_tcia_pat10{n}" for n in TWO},
        patterns=("HGG/{case}/VSD.Brain.XX.O.MR_{channel}.*/*.mha", "HGG/{case}/VSD.Brain*.O.OT.*/*.mha"),
    ),
    "ISLES 2018": Layout(
        tuple(
            f"TRAINING/case_{n}/SMIR.Brain.XX.O.CT_{kind}.3455{n}/SMIR.Brain.XX.O.CT_{kind}.3455{n}.nii"
            for n in TWO
            for kind in ("CBF", "MTT", "4DPWI")
        ),
        tuple(f"TRAINING/case_{n}/SMIR.Brain.XX.O.OT.3455{n}/SMIR.Brain.XX.O.OT.3455{n}.nii" for n in TWO),
        {
            f"TRAINING_case_{n}": (
                *(
                    f"TRAINING/case_{n}/SMIR.Brain.XX.O.CT_{kind}.3455{n}/SMIR.Brain.XX.O.CT_{kind}.3455{n}.nii"
                    for kind in ("CBF", "MTT")
                ),
                f"TRAINING/case_{n}/SMIR.Brain.XX.O.OT.3455{n}/SMIR.Brain.XX.O.OT.3455{n}.nii",
            )
            for n in TWO
        },
        channels=("CBF", "MTT"),
    ),
    "BraTS 2023": Layout(
        tuple(f"{case}/{case}-{kind}.nii.gz" for case in GLI for kind in ("t1c", "t2f")),
        tuple(f"{case}/{case}-seg.nii.gz" for case in GLI),
        {
            case: tuple(f"{case}/{case}-{kind}.nii.gz" for kind in ("t1c", "t2f", "seg"))
            for case in GLI
        },
        channels=("t1c", "t2f"),
        groups={"BraTS-GLI-00002-000": "BraTS-GLI-00002", "BraTS-GLI-00002-001": "BraTS-GLI-00002"},
    ),
    "ACDC": Layout(
        tuple(f"training/patient00{n}/patient00{n}_{w}.nii.gz" for n in TWO for w in ("4d", "frame01", "frame12")),
        tuple(f"training/patient00{n}/patient00{n}_frame{frame}_gt.nii.gz" for n in TWO for frame in ("01", "12")),
        {
            f"training_patient00{n}_frame{frame}": (
                f"training/patient00{n}/patient00{n}_frame{frame}.nii.gz",
                f"training/patient00{n}/patient00{n}_frame{frame}_gt.nii.gz",
            )
            for n in TWO
            for frame in ("01", "12")
        },
        groups={f"training_patient00{n}_frame{frame}": f"patient00{n}" for n in TWO for frame in ("01", "12")},
        patterns=("*/*/*_frame??.nii.gz", "*/*/*_frame??_gt.nii.gz"),
    ),
    "KiTS 2023": Layout(
        tuple(f"dataset/case_0000{n}/imaging.nii.gz" for n in TWO),
        tuple(
            f"dataset/case_0000{n}/{what}.nii.gz"
            for n in TWO
            for what in ("segmentation", "instances/kidney_instance-1_annotation-1")
        ),
        {
            f"dataset_case_0000{n}": (
                f"dataset/case_0000{n}/imaging.nii.gz",
                f"dataset/case_0000{n}/segmentation.nii.gz",
            )
            for n in TWO
        },
        patterns=("dataset/*/imaging.nii.gz", "dataset/*/segmentation.nii.gz"),
    ),
    "LiTS": Layout(
        ("Training Batch 1/volume-0.nii", "Training Batch 2/volume-28.nii"),
        ("Training Batch 1/segmentation-0.nii", "Training Batch 2/segmentation-28.nii"),
        {
            "Training_Batch_1_0": ("Training Batch 1/volume-0.nii", "Training Batch 1/segmentation-0.nii"),
            "Training_Batch_2_28": ("Training Batch 2/volume-28.nii", "Training Batch 2/segmentation-28.nii"),
        },
        patterns=("*/volume-*.nii", "*/segmentation-*.nii"),
    ),
    "Promise12": Layout(
        tuple(f"TrainingData_Part{n}/Case0{n}.mhd" for n in TWO),
        tuple(f"TrainingData_Part{n}/Case0{n}_segmentation.mhd" for n in TWO),
        {
            f"TrainingData_Part{n}_Case0{n}": (
                f"TrainingData_Part{n}/Case0{n}.mhd",
                f"TrainingData_Part{n}/Case0{n}_segmentation.mhd",
            )
            for n in TWO
        },
        patterns=("*/Case??.mhd", "*/Case??_segmentation.mhd"),
    ),
    "masks in a folder beside images": Layout(
        ("a.png", "b.png"),
        ("masks/a.png", "masks/b_mask.png"),
        {"a": ("a.png", "masks/a.png"), "b": ("b.png", "masks/b_mask.png")},
    ),
    "baseline and follow-up": Layout(
        tuple(f"p{n}_{when}.nii.gz" for n in TWO for when in ("baseline", "followup")),
        tuple(f"p{n}_{when}_lesion_mask.nii.gz" for n in TWO for when in ("baseline", "followup")),
        {
            f"p{n}_{when}": (f"p{n}_{when}.nii.gz", f"p{n}_{when}_lesion_mask.nii.gz")
            for n in TWO
            for when in ("baseline", "followup")
        },
        groups={f"p{n}_{when}": f"p{n}" for n in TWO for when in ("baseline", "followup")},
        patterns=("*.nii.gz", "*_lesion_mask.nii.gz"),
    ),
}  # fmt: skip


def draw(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array[:, :, 0].astype(np.uint8)).save(path)
    elif path.suffix in (".mha", ".mhd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.astype(np.int16)), path)
    else:
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag((1, 1, 2, 1))), path)


def write(layout: Layout, folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in layout.images:
        draw(folder / name, random.integers(0, 250, SHAPE))
    for name in layout.label_maps:
        label_map = np.zeros(SHAPE)
        label_map[1:3, 1:3] = 1
        draw(folder / name, label_map)
    if layout.json:
        name, _, content = layout.json.partition(" ")
        (folder / name).write_text(content)


def pairs(found: CaseList, below: Path) -> Pairs:
    return {
        case.case_id: tuple(
            source.path.relative_to(below).as_posix()
            for source in (*case.images, *(case.label.sources if case.label else ()))
        )
        for case in found.cases
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    write(layout, tmp_path)
    found = find_cases(tmp_path)
    assert pairs(found, tmp_path) == layout.expected
    assert found.channels == layout.channels
    assert not found.problems and not found.doubts
    for case in found.cases:
        assert case.group == layout.groups.get(case.case_id, case.group)
    several = {case.case_id: case.group or case.case_id for case in found.cases}
    assert len(set(several.values())) == len(set({k: layout.groups.get(k, k) for k in several}.values()))
    if layout.labels:
        assert found.labels is not None and tuple(found.labels.names) == layout.labels
    unlabelled = find_cases(tmp_path, labelled=False)
    assert unlabelled.channels == found.channels and {*pairs(found, tmp_path)} <= {*pairs(unlabelled, tmp_path)}


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.patterns])
def test_patterns_find_the_same(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    assert layout.patterns is not None
    write(layout, tmp_path)
    found = find_cases(tmp_path, images=layout.patterns[0], labels=layout.patterns[1])
    assert sorted(pairs(found, tmp_path).values()) == sorted(layout.expected.values())
    assert len(found.channels) == len(layout.channels)
