"""Bundles of MONAI's Model Zoo, imported: logits and label maps against MONAI's own run of them, in float32.

    python benchmarks/zoo_bundles.py ZOO/models/spleen_ct_segmentation --image CT.nii.gz --part 200 200 60

Weights are drawn at random, since those of the Zoo are not everywhere. MONAI evaluates the bundle's own configuration:
its preprocessing, network, inferer and postprocessing. A network of several channels sees the image, and powers of its
values. Random weights tell labels hardly apart, so the table says of how many voxels of the model grid MONAI's own
largest two logits are closer than twice the largest difference. Seconds are those of the processor. Prints a Markdown
table.
"""

import argparse
import copy
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from environment import describe
from monai.bundle import ConfigParser

import medseg
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.transforms.prepared import prepare

WEIGHTS = ("model.pt", "model_lowres.pt")  # whichever the configuration asks for
SPREAD = 0.2  # of what is drawn
MOST_REGIONS = 4  # outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="folders with configs/inference.json")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--part", type=int, nargs=3, help="take only so many voxels, from the middle")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="id=true or id=false")
    arguments = parser.parse_args()
    print(describe(), "\n")
    columns = "voxels | deviation of logits | largest difference | labels that differ | as close | MONAI, medseg (s)"
    print(f"| bundle | {columns} |")
    print("| --- " * 7 + "|", flush=True)
    for bundle in arguments.bundles:
        with tempfile.TemporaryDirectory() as temporary:
            print(compared(bundle, arguments, Path(temporary)), flush=True)


def compared(source: Path, arguments: argparse.Namespace, folder: Path) -> str:
    """Returns the row of a bundle."""
    bundle = shutil.copytree(source, folder / "bundle")
    parser = ConfigParser()
    parser.read_config(next((bundle / "configs").glob("inference.[jy]*")))
    parser["bundle_root"] = str(bundle)
    settings = {
        name: value for name, _, value in (each.partition("=") for each in arguments.settings) if name in parser
    }
    for name, value in settings.items():
        parser[name] = value == "true"
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    draw_norms(network)
    (bundle / "models").mkdir(exist_ok=True)
    for name in WEIGHTS:
        torch.save(network.state_dict(), bundle / "models" / name)
    volumes = write_images(arguments, folder, int(parser["network_def"].get("in_channels", 1)))
    start = time.process_time()
    right, label_map = by_monai(parser, network, volumes)
    between = time.process_time()
    logits, own = by_medseg(bundle, volumes, folder / "model", settings)
    seconds = f"{between - start:.0f}, {time.process_time() - between:.0f}"
    if len(right) <= MOST_REGIONS:
        # Regions are in the order in which they are written, which MONAI's outputs need not have.
        order = [int((logits - each).abs().flatten(1).amax(1).argmin()) for each in right]
        logits = logits[order]
    difference = float((logits - right).abs().max())
    best = right.topk(min(2, len(right)), dim=0).values
    close = float(((best[0] - best[-1]) <= 2 * difference).float().mean())
    differ = np.count_nonzero(own != label_map)
    told = f"{float(right.std()):.2f} | {difference:.1e} | {differ} of {label_map.size} | {close:.1e}"
    return f"| {source.name} | {'×'.join(map(str, right.shape[1:]))} | {told} | {seconds} |"


def draw_norms(network: torch.nn.Module) -> None:
    """Draws scales and shifts of norms, which hide faults as they are; convolutions have been drawn already."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor += SPREAD * torch.randn(tensor.shape, generator=generator).abs()


def write_images(arguments: argparse.Namespace, folder: Path, n_channels: int) -> list[Path]:
    image = nibabel.load(arguments.image)
    if arguments.part:
        starts = [max(0, (n - part) // 2) for n, part in zip(image.shape, arguments.part, strict=True)]
        image = image.slicer[tuple(slice(a, a + n) for a, n in zip(starts, arguments.part, strict=True))]
    values = np.asarray(image.dataobj, dtype=np.float32)
    scaled = (values - values.min()) / (values.max() - values.min())
    paths: list[Path] = []
    (folder / "images").mkdir()
    for i in range(n_channels):
        channel = values if i == 0 else 1000 * scaled ** (i + 1)
        paths.append(folder / "images" / f"case_{i:04d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.rint(channel).astype(np.int16), image.affine), paths[-1])
    return paths


def by_monai(parser: ConfigParser, network: torch.nn.Module, images: list[Path]) -> tuple[torch.Tensor, np.ndarray]:
    """Returns logits on the model grid, and the label map on the grid of the image."""
    steps = parser.get("postprocessing")["transforms"]
    kept: list[dict[str, Any]] = [step for step in copy.deepcopy(steps) if "SaveImage" not in step["_target_"]]
    parser["postprocessing"]["transforms"] = kept
    before, inferer, after = (
        parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "postprocessing")
    )
    data = before({"image": images[0] if len(images) == 1 else images})
    with torch.inference_mode():
        data["pred"] = inferer(data["image"][None], network)[0]
    logits = data["pred"].as_tensor().clone()
    return logits, after(data)["pred"].as_tensor()[0].numpy()


def by_medseg(
    bundle: Path, images: list[Path], folder: Path, settings: dict[str, str]
) -> tuple[torch.Tensor, np.ndarray]:
    """Returns the same by the imported model."""
    medseg.import_model(
        bundle, folder, entries=[f"{name.replace('#', '::')}={value}" for name, value in settings.items()]
    )
    model = load_model(folder, choose_device("cpu", "fp32"))
    plan = model.record.plan
    read = [medseg.read_volume(path) for path in images]
    volume = medseg.Volume(np.concatenate([each.array for each in read]), read[0].geometry)
    prepared = prepare(volume, None, plan.grid)
    logits = predict_logits(model.network, prepared.image, plan, model.record.inference, model.device)
    result = medseg.predict(folder, images[0].parent, images="case_*.nii.gz", device="cpu", precision="fp32")
    return logits, result.predictions[0].label_map.array[0]


if __name__ == "__main__":
    main()
