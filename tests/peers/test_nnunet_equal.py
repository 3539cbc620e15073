"""Models that nnU-Net 2.8.1 made, imported: images are prepared, and voxels labelled, as by nnU-Net itself.

nnU-Net sums logits in half precision, on a processor too, so that they agree to about a hundredth and no further.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

import medseg
from medseg.dataset.cases import Case
from medseg.dataset.reading import read_images
from medseg.device import choose_device
from medseg.inferers.case_stream import CaseStream
from medseg.inferers.model import Model, load_model
from medseg.inferers.predictor import Predictor
from medseg.io.discover import image_sources
from medseg.plan import STORED
from medseg.transforms.prepared import prepare

SAME_IMAGE = 2e-4  # in units of normalized values: nnU-Net's splines are of float64, medseg's of float32
SAME_LOGITS, SAME_DIGITS = 2e-2, 2e-3  # absolute, and as part of a logit: half precision has eleven bits
SAME_PROBABILITY = 2e-2  # what that makes of the difference of two mean probabilities
SAME_IN_ALL = (
    0.95  # of the voxels, where the second stage sees what the own first one found; drawn weights shift it far
)
LEAST_WEIGHT = 1e-4  # of windows, of at most 10: below it no digits are left of logits in half precision

HALVES = (
    ("isotropic", "separate_z", "flat", "residual", "regions", "ignore"),
    ("two_channels", "two_folds", "old_plans", "no_mirroring", "torch_resampling", "reoriented", "inherited"),
)


@pytest.mark.slow
def test_images_logits_and_labels_are_those_of_nnunet(
    peer: Any, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)  # nnU-Net computes in float32
    folders = [peer.folder / "half_0", peer.folder / "half_1"]
    peer.run(*(("all", real_data, folder, *kinds) for folder, kinds in zip(folders, HALVES, strict=True)))
    wrong = [
        difference
        for folder, kinds in zip(folders, HALVES, strict=True)
        for kind in kinds
        for difference in differences(folder, kind, tmp_path / kind)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_cascades_and_averages_are_those_of_nnunet(
    peer: Any, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)  # nnU-Net computes in float32
    peer.run(("stages", real_data, peer.folder))
    (dataset,) = (peer.folder / "models").iterdir()
    cascade, average = (
        medseg.import_model(dataset, tmp_path / name, configuration=name)
        for name in ("3d_cascade_fullres", "3d_lowres+3d_fullres")
    )
    second = load_model(cascade / "3d_cascade_fullres", choose_device("cpu", "fp32"))
    wrong = []
    for mask in sorted(peer.folder.glob("predictions/3d_lowres/*.nii.gz")):
        image = peer.folder / "images" / mask.name
        first, both, mean = (
            peer.folder / "predictions" / name / image.name for name in ("3d_lowres", "3d_cascade_fullres", "averaged")
        )
        theirs, images = np.load(both.with_name(both.name.replace(".nii.gz", ".npz"))), tmp_path / image.name[:-7]
        linked([image, *masks_of(first, tmp_path / "masks")], images)
        found = [*case_differences(second, sorted(images.iterdir()), theirs)]
        sure = in_file(margins(theirs, second), theirs["box"], nibabel.load(both), second) > 2 * SAME_LOGITS
        found += label_differences(predicted(cascade / "3d_cascade_fullres", images), read(both), sure)
        same = np.mean(
            predicted(cascade, image) == read(both)
        )  # near ties of the first stage change the second's input
        found += [f"{same:.4f} of the voxels are the same as in both stages of nnU-Net"] * bool(same < SAME_IN_ALL)
        ordered = np.sort(np.load(mean.with_name(mean.name.replace(".nii.gz", ".npz")))["probabilities"], axis=0)
        found += label_differences(predicted(average, image), read(mean), ordered[-1] - ordered[-2] > SAME_PROBABILITY)
        wrong += [f"{image.name}: {each}" for each in found]
    assert not wrong, "\n".join(wrong)


def masks_of(label_map: Path, folder: Path) -> list[Path]:
    """Writes a mask of each label, as the second stage of a cascade sees what the first one found."""
    folder.mkdir(exist_ok=True)
    image, values, paths = nibabel.load(label_map), read(label_map), []
    for label in (1, 2):
        paths.append(folder / f"{label}_{label_map.name}")
        nibabel.save(nibabel.Nifti1Image((values == label).astype(np.uint8), image.affine), paths[-1])
    return paths


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def predicted(model: Path, images: Path) -> np.ndarray:
    (prediction,) = medseg.predict(model, images, device="cpu", backend="torch")
    return prediction.label_map.array[0]  # type: ignore[no-any-return]


def label_differences(ours: np.ndarray, theirs: np.ndarray, sure: np.ndarray) -> Iterator[str]:
    """Yields where labels differ of which nnU-Net is sure, or why that proves nothing."""
    if not np.array_equal(ours[sure], theirs[sure]):
        yield f"{np.count_nonzero(ours[sure] != theirs[sure])} of {sure.sum()} sure voxels differ"
    if sure.mean() < 0.75 or len(np.unique(theirs)) < 3:
        yield f"proves nothing: {sure.mean():.3f} are sure, labels {np.unique(theirs)}"


def differences(folder: Path, kind: str, work: Path) -> Iterator[str]:
    """Yields in words where an imported model does something else than nnU-Net did."""
    path = work / "model"
    medseg.import_model(folder / "models" / kind, path)
    model = load_model(path, choose_device("cpu", "fp32"))
    for label_map in sorted((folder / "predictions" / kind).glob("*.nii.gz")):
        case = label_map.name.removesuffix(".nii.gz")
        images = sorted(folder.glob(f"images/{case}.nii.gz")) or sorted(folder.glob(f"images/{case}_?.nii.gz"))
        theirs, expected = np.load(label_map.with_name(f"{case}.npz")), nibabel.load(label_map)
        sure = in_file(margins(theirs, model), theirs["box"], expected, model) > 2 * SAME_LOGITS
        found = [*case_differences(model, images, theirs)]
        found += label_differences(predicted(path, linked(images, work / case)), read(label_map), sure)
        yield from (f"{kind}, {case}: {each}" for each in found)


def linked(images: list[Path], folder: Path) -> Path:
    """The channels of one case, by the names that nnU-Net gives them."""
    folder.mkdir(parents=True)
    for channel, image in enumerate(images):
        (folder / f"case_{channel:04d}.nii.gz").symlink_to(image)
    return folder


def case_differences(model: Model, images: list[Path], theirs: Any) -> Iterator[str]:
    """Yields where a prepared image, or its logits, are not those of nnU-Net."""
    plan = model.record.plan
    sources = tuple(source for path in images for source in image_sources(path).sources)
    image = prepare(read_images(Case("case", sources), tolerance=0.05), None, plan.grid).image
    if image.shape != theirs["prepared"].shape:
        yield f"prepared as {tuple(image.shape)}, by nnU-Net as {theirs['prepared'].shape}"
        return
    apart = np.abs(image.numpy() - theirs["prepared"]).max()
    if not apart < SAME_IMAGE:
        yield f"prepared values differ by up to {apart:.2g}"
    axes = plan.mirrored_axes if model.record.inference.mirror else ()
    stream = CaseStream(Predictor(model.network, plan, model.device, axes), image, model.record.inference)
    slabs = [slab.fresh.clone() for slab in stream.slabs()]
    seen = theirs["weight"][0] > LEAST_WEIGHT
    logits = np.moveaxis(np.concatenate(slabs, stream.layout.axis), -1, 0)
    apart = (np.abs(logits - theirs["logits"]) - SAME_DIGITS * np.abs(logits))[:, seen].max()
    if not apart < SAME_LOGITS:
        yield f"logits differ by {apart:.2g} more than half precision explains"


def margins(theirs: Any, model: Model) -> np.ndarray:
    """How far each voxel is from having another label: by the logits of nnU-Net, inside of the non-zero box."""
    logits = theirs["source_logits"]
    ordered = np.sort(logits, axis=0)
    margin = np.abs(logits).min(0) if model.record.plan.regions else ordered[-1] - ordered[-2]
    return np.where(theirs["source_unsure"][0] > 0, 0, margin - 2 * SAME_DIGITS * np.abs(logits).max(0))


def in_file(margin: np.ndarray, box: np.ndarray, image: Any, model: Model) -> np.ndarray:
    """The margins on the whole grid of the file; outside of the box it is background for sure."""
    file_axes = nibabel.io_orientation(image.affine)
    stored = model.record.plan.grid.orientation == STORED
    shape = image.shape if stored else [image.shape[int(axis)] for axis in np.argsort(file_axes[:, 0])]
    whole = np.full(shape, np.inf)
    whole[tuple(slice(*ends) for ends in box)] = margin
    if stored:
        return whole
    to_file = ornt_transform(axcodes2ornt("RAS"), file_axes)
    return apply_orientation(whole, to_file)
