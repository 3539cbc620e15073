"""Models of medseg that nnU-Net 2.8.1 predicts with: its label maps are medseg's."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

import medseg
from medseg.architecture import Architecture
from medseg.config import InferenceConfig
from medseg.inferers.model import save_model
from medseg.inferers.model_record import ModelRecord
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Grid, LearntRegion, Normalization, Plan, Resampling, Windows

LABELS = Labels.from_names({"anterior": 1, "posterior": 2})
REGIONS = Labels.from_names({"posterior": 2}, {"hippocampus": (1, 2)})
STRIDES, KERNELS = ((1, 1, 1), (2, 1, 2), (2, 2, 2)), ((3, 1, 3), (3, 3, 3), (3, 3, 3))
SURE = 0.05  # of logits, of which nnU-Net sums hundredths away


def grid(**changes: Any) -> Grid:
    rule = Normalization(kind="zscore")
    own = Grid(orientation="RAS", spacing=(1.3, 0.9, 1.1), crop_to_nonzero=True, fill_holes=True, normalization=(rule,))
    return own.model_copy(update=changes)


def plan(**changes: Any) -> Plan:
    architecture = Architecture(features=(6, 8, 12), strides=STRIDES, kernel_sizes=KERNELS)
    own = Plan(
        dims=3,
        grid=grid(resampling=Resampling(rule="nnunet")),
        patch_size=(20, 32, 24),
        batch_size=2,
        slice_axis=None,
        architecture=architecture,
        mirrored_axes=(0,),
        windows=Windows(rule="nnunet"),
    )
    return own.model_copy(update=changes)


FLAT = Architecture(features=(6, 8), strides=((1, 1), (2, 2)), kernel_sizes=((3, 3), (3, 3)))
RESIDUAL = Architecture(
    name="residual-unet", features=(6, 8, 12), strides=STRIDES, kernel_sizes=KERNELS, arguments={"blocks": (1, 2)}
)
LEARNT = (
    LearntRegion(name="hippocampus", values=(1, 2), value=1),
    LearntRegion(name="posterior", values=(2,), value=2),
)
MODELS = {
    "own": (plan(), LABELS),
    "2D": (
        plan(
            dims=2,
            slice_axis=1,
            patch_size=(24, 1, 28),
            architecture=FLAT,
            mirrored_axes=(),
            grid=grid(resampling=Resampling(rule="nnunet"), own_spacing=(1,), orientation="stored"),
        ),
        LABELS,
    ),
    "residual": (plan(architecture=RESIDUAL), LABELS),
    "regions": (plan(regions=LEARNT), REGIONS),
    # What 'medseg train' makes: nnU-Net resamples it by another rule, and has windows elsewhere. Drawn weights are near
    # ties everywhere: an eighth of the voxels has another label.
    "trained by medseg": (plan(grid=grid(), windows=Windows()), LABELS),
}


def write_model(folder: Path, plan: Plan, labels: Labels, image: Any) -> None:
    """A model with drawn weights whose outputs each win somewhere."""
    torch.manual_seed(1)
    record = ModelRecord(
        medseg=medseg.__version__,
        plan=plan,
        labels=labels,
        channels=("T1",),
        inference=InferenceConfig(mirror=bool(plan.mirrored_axes)),
        provenance={},
        metrics={},
    )
    network = build_network(1, len(record.outputs), plan.architecture).eval()
    values = np.asarray(image.dataobj, np.float32)
    patch = torch.from_numpy(values[tuple(slice(n) for n in plan.patch_size)]).reshape(1, 1, *plan.network_patch)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3) if parameter.ndim > 1 else parameter.add_(0.2 * torch.randn(len(parameter)))
        logits = network((patch - values.mean()) / values.std())
        network.get_parameter("network.heads.1.bias" if plan.dims == 3 else "network.heads.0.bias").sub_(
            logits.flatten(2).mean((0, 2))
        )
    save_model(folder, record, network.state_dict())


@pytest.mark.slow
def test_label_maps_of_nnunet_are_those_of_medseg(
    peer: Any, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)  # nnU-Net computes in float32
    peer.run(("images", real_data, tmp_path / "images"))
    image = tmp_path / "images" / "mr_tilted.nii.gz"
    for name, (each, labels) in MODELS.items():
        write_model(tmp_path / name, each, labels, nibabel.load(image))
        medseg.package(tmp_path / name, tmp_path / f"{name}.results", format="nnunet")
    trained = {name: next((tmp_path / f"{name}.results").glob("*/*")) for name in MODELS}
    jobs = [["+", folder, tmp_path / f"{name}.masks", f"mr={image}"] for name, folder in trained.items()]
    peer.run(("predict", *[argument for job in jobs for argument in job][1:]))
    wrong = []
    for name, (each, _) in MODELS.items():
        (ours,) = medseg.predict(tmp_path / name, image, device="cpu", backend="torch")
        theirs = np.asarray(nibabel.load(tmp_path / f"{name}.masks" / "mr.nii.gz").dataobj)
        same = np.mean(ours.label_map.array == theirs)
        logits = np.load(tmp_path / f"{name}.masks" / "mr.npz")["source_logits"]
        ordered = np.sort(logits, axis=0)
        margin = np.abs(logits).min(0) if each.regions else ordered[-1] - ordered[-2]
        least = 1 - np.mean(margin < SURE) if each.windows.rule == "nnunet" else 0.8
        if same < least or len(np.unique(theirs)) < 3:
            wrong.append(f"{name}: {same:.5f} of voxels are the same, {least:.5f} were sure; {np.unique(theirs)}")
    assert not wrong, "\n".join(wrong)
