from pathlib import Path
from typing import Any

import monai.metrics
import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.networks import one_hot
from monai.transforms import AsDiscreted, Compose

import medseg.metrics
from medseg.metrics import (
    AverageSurfaceDistanceMetric,
    CentrelineDiceMetric,
    DiceMetric,
    HausdorffDistance95Metric,
    HausdorffDistanceMetric,
    IoUMetric,
    LesionF1Metric,
    MaskMetric,
    PanopticQualityMetric,
    PrecisionMetric,
    SensitivityMetric,
    SurfaceDiceMetric,
    hd95,
    surface_dice,
)

SPACING = (0.7, 1.3, 2.9)


def hippocampi(real_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of two cases, (batch, channel, x, y, z), and it moved by a voxel or two."""
    maps = np.zeros((2, 1, 40, 56, 48), np.int64)
    for place, name in zip(maps, ("001", "004"), strict=True):
        label_map = np.asarray(nibabel.load(real_data / f"hippocampus/labelsTr/hippocampus_{name}.nii.gz").dataobj)
        label_map = label_map[:40, :56, :48]
        place[0, : label_map.shape[0], : label_map.shape[1], : label_map.shape[2]] = label_map
    reference = one_hot(torch.tensor(maps), 3)
    return torch.roll(reference, (1, -2), (2, 3)), reference


@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (DiceMetric, monai.metrics.DiceMetric()),
        (IoUMetric, monai.metrics.MeanIoU()),
        (HausdorffDistanceMetric, monai.metrics.HausdorffDistanceMetric()),
        (HausdorffDistance95Metric, monai.metrics.HausdorffDistanceMetric(percentile=95)),
        (AverageSurfaceDistanceMetric, monai.metrics.SurfaceDistanceMetric(symmetric=True)),
    ],
)
def test_values_and_means_are_those_of_monai(
    ours: type[MaskMetric], theirs: Any, include_background: bool, real_data: Path
) -> None:
    prediction, reference = hippocampi(real_data)
    theirs.include_background = include_background
    if hasattr(theirs, "dice_helper"):
        theirs.dice_helper.include_background = include_background
    metric = ours(include_background=include_background)
    spacing = {"spacing": SPACING} if metric.needs_spacing else {}
    theirs.reset()
    expected = theirs(prediction, reference, **spacing)
    torch.testing.assert_close(metric(prediction, reference, **spacing), expected, atol=1e-4, rtol=0, check_dtype=False)
    torch.testing.assert_close(metric.aggregate(), theirs.aggregate(), atol=1e-4, rtol=0, check_dtype=False)


def test_surface_dice_is_that_of_monai(real_data: Path) -> None:
    prediction, reference = hippocampi(real_data)
    metric = SurfaceDiceMetric(1.2, spacing=SPACING)
    theirs = monai.metrics.SurfaceDiceMetric([1.2, 1.2], use_subvoxels=True)
    expected = theirs(prediction, reference, spacing=SPACING)
    torch.testing.assert_close(metric(prediction, reference), expected, atol=1e-4, rtol=0, check_dtype=False)


def test_images_of_two_axes_are_measured_in_their_plane(real_data: Path) -> None:
    prediction, reference = (each[..., 14] for each in hippocampi(real_data))
    metric = SurfaceDiceMetric(1.0, spacing=SPACING[:2])
    theirs = monai.metrics.SurfaceDiceMetric([1.0, 1.0], use_subvoxels=True)
    expected = theirs(prediction, reference, spacing=SPACING[:2])
    torch.testing.assert_close(metric(prediction, reference), expected, atol=1e-4, rtol=0, check_dtype=False)
    with pytest.raises(ValueError, match="3 numbers for images of 2 axes"):
        metric(prediction, reference, spacing=SPACING)
    with pytest.raises(TypeError, match="takes no spacings"):
        metric(prediction, reference, spacings=SPACING[:2])


@pytest.mark.parametrize(
    "metric, missed, false_alarm",
    [
        (DiceMetric(), 0, 0),
        (IoUMetric(), 0, 0),
        (SensitivityMetric(), 0, None),
        (PrecisionMetric(), None, 0),
        (HausdorffDistanceMetric(spacing=SPACING), None, None),
        (HausdorffDistance95Metric(spacing=SPACING), None, None),
        (AverageSurfaceDistanceMetric(spacing=SPACING), None, None),
        (SurfaceDiceMetric(1.0, spacing=SPACING), 0, 0),
        (CentrelineDiceMetric(), 0, 0),
        (LesionF1Metric(), 0, 0),
        (PanopticQualityMetric(), 0, 0),
    ],
)
def test_what_is_not_defined_is_nan_and_no_part_of_the_mean(
    metric: MaskMetric, missed: int | None, false_alarm: int | None
) -> None:
    empty, full = torch.zeros(1, 2, 6, 7, 8), torch.ones(1, 2, 6, 7, 8)
    values = [metric(*pair)[0, 0].item() for pair in ((empty, full), (full, empty), (empty, empty), (full, full))]
    expected = [missed, false_alarm, None, 0 if metric.aggregate("sum") == 0 else 1]
    assert values[:3] == pytest.approx([np.nan if each is None else each for each in expected[:3]], nan_ok=True)
    defined = [value for value in values if not np.isnan(value)]
    assert metric.aggregate().item() == pytest.approx(np.mean(defined))
    metric.get_not_nans = True
    assert metric.aggregate()[1].item() == len(defined)
    metric.reset()
    with pytest.raises(ValueError, match="nothing was measured yet"):
        metric.aggregate()


def test_spacing_is_that_of_the_affine_of_each_image(real_data: Path) -> None:
    prediction, reference = hippocampi(real_data)
    spacings = [SPACING, (2.0, 1.0, 1.0)]
    images = [
        MetaTensor(image, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))
        for image, spacing in zip(reference, spacings, strict=True)
    ]
    expected = [
        hd95((prediction[i, 1] > 0).numpy(), (reference[i, 1] > 0).numpy(), spacing)
        for i, spacing in enumerate(spacings)
    ]
    of_list = HausdorffDistance95Metric()(list(prediction), images)
    assert of_list[:, 0].tolist() == pytest.approx(expected)
    batch = next(iter(DataLoader(Dataset(images), batch_size=2)))
    assert torch.equal(HausdorffDistance95Metric()(prediction, batch), of_list)
    with pytest.raises(ValueError, match=r"say spacing=\(…\) in mm"):
        HausdorffDistance95Metric()(prediction, reference)


def test_probabilities_and_other_shapes_are_refused() -> None:
    masks = torch.zeros(1, 2, 6, 7, 8)
    with pytest.raises(ValueError, match="of 0 and 1"):
        DiceMetric()(masks + 0.5, masks)
    with pytest.raises(ValueError, match="differ"):
        DiceMetric()(masks[..., 1:], masks)
    with pytest.raises(ValueError, match="masks of shape"):
        DiceMetric()(masks[0, 0], masks[0, 0])


def test_they_work_inside_of_monais_evaluator(real_data: Path) -> None:
    """What ``IgniteMetricHandler`` reports are the means of medseg's functions, in the spacing of each image."""
    prediction, reference = hippocampi(real_data)
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    cases = [
        {"image": moved, "label": MetaTensor(label.argmax(0, keepdim=True), affine=affine)}
        for moved, label in zip(prediction, reference, strict=True)
    ]
    output = from_engine(["pred", "label"])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=2),
        network=torch.nn.Identity(),
        postprocessing=Compose(
            [AsDiscreted("pred", argmax=True, to_onehot=3), AsDiscreted("label", to_onehot=3)],
        ),
        key_val_metric={"dice": IgniteMetricHandler(DiceMetric(), output_transform=output)},
        additional_metrics={
            "surface_dice": IgniteMetricHandler(SurfaceDiceMetric(1.0), output_transform=output),
            "hd95_mm": IgniteMetricHandler(HausdorffDistance95Metric(), output_transform=output),
        },
        decollate=True,
    )
    for _ in range(2):  # an epoch each
        evaluator.run()
    pairs = [(prediction[i, c].numpy() > 0, reference[i, c].numpy() > 0) for i in range(2) for c in (1, 2)]
    metrics = evaluator.state.metrics
    assert metrics["hd95_mm"] == pytest.approx(np.mean([hd95(*pair, SPACING) for pair in pairs]))
    assert metrics["surface_dice"] == pytest.approx(np.mean([surface_dice(*pair, SPACING, 1.0) for pair in pairs]))
    theirs = monai.metrics.DiceMetric(include_background=False)
    theirs(decollate_batch(prediction), decollate_batch(reference))
    assert metrics["dice"] == pytest.approx(theirs.aggregate().item(), abs=1e-6)
    assert evaluator.state.metric_details["dice"].shape == (2, 2)


def test_every_public_name_is_there() -> None:
    for name in medseg.metrics.__all__:
        assert getattr(medseg.metrics, name).__doc__
