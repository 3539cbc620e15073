"""MONAI's DynUNet with nnU-Net's recipe, written with MONAI's parts alone.

Its patch, batch, strides, kernels and features are those of medseg's plan for a processor, so that recipes are compared
and not sizes: a plan for a GPU does some ten steps in these minutes. SGD with Nesterov's momentum, a rate that decays
by the clock, Dice and cross-entropy with deep supervision, a third of the patches on foreground, augmentation with
nnU-Net's probabilities and ranges, mirroring on all axes; in the precision that medseg takes on this processor.

    python -m dataset_runs.dynunet_run DATASET DIMS BEGUN SECONDS SEED MASKS RECORD      from the folder benchmarks/

BEGUN is when it was called, as time.time() tells it.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai
import nibabel
import numpy as np
import torch
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from PIL import Image
from torch.utils.data import RandomSampler

from dataset_runs.medseg_run import described
from dataset_runs.outcome import Outcome, timed
from dataset_runs.sources import DatasetFolder
from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.plan import Normalization, Plan
from medseg.planning.derive import fit_to_cpu

BOTH = ("image", "label")
ANISOTROPY = 3.0  # from here on nnU-Net turns within slices only
MANY_STEPS = 10**6


def train_and_predict(dataset: DatasetFolder, folder: Path, minutes: float, seed: int) -> Outcome:
    output = folder / "record.json"
    here = Path(__file__).resolve().parents[1]
    environment = {"PYTHONPATH": f"{here}:{here.parent}"}
    command = [sys.executable, "-m", "dataset_runs.dynunet_run", dataset.folder, dataset.source.dims]
    command += [time.time(), minutes * 60, seed, folder / "masks", output]
    timed(command, folder / "log.txt", **environment)
    record = json.loads(output.read_text())
    return Outcome(folder / "masks", **record, seconds=record["training_seconds"])


def main() -> None:
    folder, dims, begun, budget, seed, masks, output = sys.argv[1:]
    prepared, split = PreparedDataset(Path(folder) / "prepared"), json.loads((Path(folder) / "split.json").read_text())
    plan = prepared.plans.plan_2d if dims == "2" else prepared.plans.plan_3d
    assert plan is not None
    # A DynUNet gives logits at the resolution that it begins with.
    plan = fit_to_cpu(plan, Config.model_validate({"planning": {"cpu_half_resolution": False}}))
    monai.utils.set_determinism(int(seed))
    files = {case: _files(Path(folder) / "raw", case) for case in (*split["training"], *split["validation"])}
    network = network_of(plan, 1 + len(prepared.labels.names))
    steps = train(network, plan, [files[case] for case in split["training"]], float(begun), float(budget))
    seconds = time.time() - float(begun)
    for case in split["validation"]:
        predict(network, plan, files[case], Path(masks))
    record = {
        "version": monai.__version__,
        "plan": described(plan.model_dump()),
        "steps": steps,
        "training_seconds": seconds,
    }
    Path(output).write_text(json.dumps(record))


def _files(raw: Path, case: str) -> dict[str, Path]:
    image = next((raw / "imagesTr").glob(f"{case}_0000.*"))
    return {"image": image, "label": raw / "labelsTr" / image.name.replace("_0000", "")}


def network_of(plan: Plan, outputs: int) -> DynUNet:
    architecture = plan.architecture
    return DynUNet(
        spatial_dims=plan.dims,
        in_channels=1,
        out_channels=outputs,
        kernel_size=architecture.kernel_sizes,
        strides=architecture.strides,
        upsample_kernel_size=architecture.strides[1:],
        filters=architecture.features,
        deep_supervision=True,
        deep_supr_num=max(1, len(architecture.features) - 2),
    )


def train(network: DynUNet, plan: Plan, cases: list[dict[str, Path]], begun: float, budget: float) -> int:
    """Trains until the time is up; returns the number of steps."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=plan.dims == 2)
    weights = [0.5**i for i in range(max(1, len(plan.architecture.features) - 2) + 1)]
    dtype, step = choose_device("cpu").dtype, 0
    for batch in batches(plan, cases):
        done = (time.time() - begun) / budget
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - done) ** 0.9
        image, label = (batch[key].as_tensor() for key in BOTH)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            heads = network(image).unbind(1)
        parts = [weight * loss(head.float(), label) for weight, head in zip(weights, heads, strict=True)]
        optimizer.zero_grad(set_to_none=True)
        (sum(parts) / sum(weights)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        step += 1
    return step


def batches(plan: Plan, cases: list[dict[str, Path]]) -> Iterator[dict[str, Any]]:
    prepared = CacheDataset(cases, mt.Compose([*preparation(plan, BOTH), *augmentation(plan)]), progress=False)
    sampler = RandomSampler(prepared, replacement=True, num_samples=MANY_STEPS * plan.batch_size)
    return iter(DataLoader(prepared, batch_size=plan.batch_size, sampler=sampler, num_workers=1, prefetch_factor=4))


def preparation(plan: Plan, keys: tuple[str, ...]) -> list[Any]:
    """Returns what is done once: reading, orientation, spacing and normalization as medseg's plan says."""
    modes = tuple("bilinear" if key == "image" else "nearest" for key in keys)
    first: list[Any] = [mt.Lambdad(keys, picture, track_meta=False)]
    if plan.dims == 3:
        first = [
            mt.LoadImaged(keys, ensure_channel_first=True),
            mt.Orientationd(keys, axcodes=plan.grid.orientation, labels=None),
            mt.Spacingd(keys, pixdim=plan.grid.spacing, mode=modes),
        ]
    return [*first, mt.EnsureTyped(keys), normalization(plan.grid.normalization[0])]


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path), dtype=np.float32).copy())[None]


def normalization(rule: Normalization) -> Any:
    if rule.kind == "ct":
        low, high = ((limit - rule.mean) / rule.std for limit in (rule.lower, rule.upper))
        return mt.ScaleIntensityRanged("image", rule.lower, rule.upper, low, high, clip=True)
    return mt.NormalizeIntensityd("image", nonzero=rule.nonzero)


def augmentation(plan: Plan) -> list[Any]:
    """Returns a random patch, changed as nnU-Net does it (Isensee 2021, supplement), by MONAI's transforms."""
    patch, linear = plan.network_patch, "trilinear" if plan.dims == 3 else "bilinear"
    thick = plan.dims == 3 and max(plan.grid.spacing) > ANISOTROPY * min(plan.grid.spacing)
    degrees = np.deg2rad(180 if thick or plan.dims == 2 else 30)
    axis = int(np.argmax(plan.grid.spacing))
    turns = {f"range_{name}": degrees if not thick or axis == i else 0.0 for i, name in enumerate("xyz"[: plan.dims])}
    if plan.dims == 2:
        turns = {"range_x": degrees}
    return [
        mt.SpatialPadd(BOTH, patch),
        mt.RandCropByPosNegLabeld(BOTH, "label", patch, pos=1, neg=2, num_samples=1, allow_smaller=False),
        mt.RandRotated(BOTH, **turns, prob=0.2, mode=("bilinear", "nearest"), padding_mode="zeros"),
        mt.RandZoomd(BOTH, prob=0.2, min_zoom=0.7, max_zoom=1.4, mode=(linear, "nearest"), padding_mode="constant"),
        mt.RandGaussianNoised("image", prob=0.1, std=0.1),
        mt.RandGaussianSmoothd("image", **{f"sigma_{name}": (0.5, 1.0) for name in "xyz"}, prob=0.2),
        mt.RandScaleIntensityd("image", factors=0.25, prob=0.15),
        mt.RandSimulateLowResolutiond("image", prob=0.25, zoom_range=(0.5, 1.0), upsample_mode=linear),
        mt.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        *(mt.RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(plan.dims)),
    ]


@torch.inference_mode()
def predict(network: DynUNet, plan: Plan, files: dict[str, Path], masks: Path) -> None:
    """Writes the mask of a case on the grid of its file."""
    network.eval()
    steps = mt.Compose(preparation(plan, ("image",)))
    data = steps({"image": files["image"]})
    inferer = SlidingWindowInferer(plan.network_patch, sw_batch_size=4, overlap=0.5, mode="gaussian")
    dtype = choose_device("cpu").dtype
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = inferer(data["image"][None], network).float()
    masks.mkdir(parents=True, exist_ok=True)
    if plan.dims == 2:
        Image.fromarray(logits[0].argmax(0).numpy().astype(np.uint8)).save(masks / files["label"].name)
        return
    data["logits"] = MetaTensor(logits[0], meta=data["image"].meta)
    back = mt.Invertd("logits", steps, orig_keys="image", nearest_interp=False)
    restored = back(data)["logits"]
    label_map = restored.argmax(0).numpy().astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(label_map, np.asarray(restored.affine)), masks / files["label"].name)


if __name__ == "__main__":
    main()
