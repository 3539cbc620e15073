"""A self-test of some seconds: a synthetic study through reading, a network and writing, each compared with what is
known of it. Each step raises what is wrong."""

import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from medseg.architecture import Architecture
from medseg.device import choose_device
from medseg.diagnosis import Step
from medseg.errors import MedsegError, SourceError, defect
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.phantom.anatomy import LABELS, SUPINE_AXIAL, abdomen
from medseg.phantom.dicom_study import SeriesIdentity, write_dicom_series
from medseg.volume import Array, Geometry, Volume

SHAPE, SPACING = (48, 40, 16), (8.0, 8.0, 12.0)
SMALL = Architecture(features=(8, 16), strides=((1, 1, 1), (2, 2, 2)), kernel_sizes=((3, 3, 3), (3, 3, 3)))
MOST_DIFFERENCE = 0.05  # of logits in half precision, in standard deviations of them; .01 is usual
MASKS = ("nifti", "seg-nrrd", "dicom-seg")
STUDY = "study"


@cache
def phantom() -> tuple[Array, Array, Geometry]:
    """Returns a synthetic study; it is made once.

    Returns:
        HU ``(x, y, z)``, the label map ``(x, y, z)``, and their grid.
    """
    image, label_map = abdomen(0, shape=SHAPE, spacing=SPACING)
    affine = np.eye(4)
    affine[:3, :3] = SUPINE_AXIAL * SPACING
    return image, label_map, Geometry(SHAPE, affine)


def write_study(folder: Path) -> None:
    """Writes the study as a DICOM series into a folder."""
    image, _, geometry = phantom()
    study_uid, series_uid = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    identity = SeriesIdentity("phantom", study_uid, series_uid, "Self-test")
    write_dicom_series(folder / STUDY, image, geometry, identity)


def read_study(folder: Path) -> None:
    """Reads the study again, and compares voxels and grid.

    Raises:
        SourceError: They are others than were written.
    """
    image, _, geometry = phantom()
    volume = read_volume(folder / STUDY).oriented_as(geometry.orientation)
    difference = volume.geometry.difference(geometry)
    if difference:
        raise SourceError(f"the study does not lie where it was written: {difference}")
    if np.abs(volume.array[0] - np.clip(np.rint(image), -1024, None)).max() > 0.5:
        raise SourceError("the study has other voxels than were written")


def run_network(_folder: Path) -> None:
    """Runs an untrained network on the device, and compares it with the same in float32 on the processor.

    Raises:
        MedsegError: The logits are not finite, or others.
    """
    image, _, _ = phantom()
    torch.manual_seed(0)
    network = build_network(1, len(LABELS) + 1, SMALL).eval()
    inputs = torch.from_numpy(np.clip(image / 500, -2, 2).astype(np.float32))[None, None]
    device = choose_device()
    with torch.inference_mode():
        expected = network(inputs)
        with device.autocast():
            logits = device.place(network, dims=3)(device.send(inputs)).float().cpu()
    if not torch.isfinite(logits).all():
        raise MedsegError(f"the network computes numbers that are not finite on {device}")
    difference = float((logits - expected).abs().mean() / expected.std())
    if difference > MOST_DIFFERENCE:
        raise MedsegError(f"the network computes other logits on {device} than in float32 ({difference:.2g} of them)")


def write_masks(folder: Path) -> None:
    """Writes masks of the study, each of which an independent reader compares.

    Raises:
        OutputError: A mask is not what was to be written.
    """
    volume = read_volume(folder / STUDY)
    _, label_map, geometry = phantom()
    mask = Volume(label_map[None], geometry).oriented_as(volume.geometry.orientation).label_map
    segmented = LabelMapVolume(mask, volume.geometry, Labels.from_names(LABELS), source_of(folder / STUDY))
    for name in MASKS:
        write_mask(FORMATS[name], FORMATS[name].path(folder, "mask"), segmented)


SELF_TEST = {
    "write a DICOM study": write_study,
    "read it": read_study,
    "run a network": run_network,
    f"write and certify masks ({', '.join(MASKS)})": write_masks,
}


def run_self_test() -> tuple[Step, ...]:
    """Returns the steps of the self-test as far as they came: the first that fails is the last."""
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="medseg-doctor-") as folder:
        for name, step in SELF_TEST.items():
            steps.append(_step(name, step, Path(folder)))
            if steps[-1].problem:
                break
    return tuple(steps)


def _step(name: str, step: Callable[[Path], None], folder: Path) -> Step:
    start = time.monotonic()
    problem = ""
    try:
        step(folder)
    except MedsegError as error:
        problem = str(error)
    except Exception as error:  # whatever this machine's libraries raise is what is looked for
        problem = defect(error)
    return Step(name=name, seconds=round(time.monotonic() - start, 2), problem=problem)
