"""Each rule by which cases come to the model grid gives what the library that has it gives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, Spacingd
from scipy import ndimage
from skimage.transform import resize

from medseg.errors import GeometryError
from medseg.plan import Grid, Normalization, Resampling
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.prepared import normalized, prepare
from medseg.transforms.preprocessing import build_preprocessing
from medseg.transforms.restoring import Restoring, restore, restore_label_map
from medseg.volume import Geometry, Volume

NNUNET = Resampling(rule="nnunet")
SHAPE = (29, 22, 16)


def noise(*shape: int, channels: int = 2) -> torch.Tensor:
    """Values that jump, so that splines reach beyond what there was."""
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(1)) * 50 + 100


def on_model_grid(image: torch.Tensor, rule: ModelGridRule, source: Geometry) -> tuple[np.ndarray, Geometry]:
    target = rule.grid_of(source)
    return rule.images_on(image, source, target).numpy(), target


def resized(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """What nnU-Net does with one channel: ``skimage.transform.resize``, in float64."""
    return resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)  # type: ignore[no-any-return]


def sliced(image: np.ndarray, shape: tuple[int, ...], order: int, axis: int) -> np.ndarray:
    """What nnU-Net does where an axis is separate: planes by splines, then the nearest of them."""
    plane = shape[:axis] + shape[axis + 1 :]
    planes = np.stack([resized(each, plane, order) for each in np.moveaxis(image, axis, 0)], axis)
    places = [old / new * (np.arange(new) + 0.5) - 0.5 for old, new in zip(planes.shape, shape, strict=True)]
    return ndimage.map_coordinates(planes, np.meshgrid(*places, indexing="ij"), order=0, mode="nearest")  # type: ignore[no-any-return]


@pytest.mark.parametrize("wanted", [(1.0, 1.0, 1.0), (0.6, 1.4, 2.9), (1.0, 1.0, 2.0), (3.1, 1.7, 5.0)])
@pytest.mark.parametrize("order", [1, 3])
def test_without_a_separate_axis_it_is_the_resize_of_scikit_image(wanted: tuple[float, ...], order: int) -> None:
    image, source = noise(*SHAPE), Geometry(SHAPE, np.diag([1.0, 1.0, 2.5, 1.0]))
    by = Resampling(rule="nnunet", interpolation="cubic" if order == 3 else "linear", separate_z=False)
    ours, target = on_model_grid(image, ModelGridRule(wanted, by), source)
    shape = tuple(round(old / new * n) for old, new, n in zip(source.spacing, wanted, SHAPE, strict=True))
    assert target.shape == shape
    for own, channel in zip(ours, image.numpy(), strict=True):
        assert np.abs(own - resized(channel, shape, order)).max() < 1e-4  # of values up to 300, in float32


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thick", [2.0, 5.0, 9.0])
def test_thick_slices_are_resampled_in_their_planes(axis: int, thick: float) -> None:
    spacing, wanted, shape = [0.8, 0.8, 0.8], [1.0, 1.0, 1.0], [21, 17, 19]
    spacing[axis], wanted[axis], shape[axis] = 4.0, thick, 12
    source = Geometry(tuple(shape), np.diag([*spacing, 1.0]))  # type: ignore[arg-type]
    image = noise(*shape)
    ours, target = on_model_grid(image, ModelGridRule(wanted, NNUNET), source)
    for own, channel in zip(ours, image.numpy(), strict=True):
        assert np.abs(own - sliced(channel, target.shape, 3, axis)).max() < 1e-4
    alike, _ = on_model_grid(image, ModelGridRule(wanted, NNUNET.model_copy(update={"separate_z": False})), source)
    assert np.abs(alike - ours).max() > 1


@pytest.mark.parametrize(
    ("current", "new", "axis"),
    [
        ((0.8, 0.8, 2.4), (0.8, 0.8, 1.0), None),  # exactly three times as long is not more
        ((0.8, 0.8, 2.5), (0.8, 0.8, 1.0), 2),
        ((0.8, 5.0, 0.8), (0.8, 0.8, 6.0), 1),  # the current spacing comes first
        ((1.0, 1.0, 2.0), (4.0, 1.0, 1.0), 0),
        ((0.2, 1.25, 1.25), (1.0, 1.0, 1.0), None),  # two axes are the longest
        ((0.2, 1.25, 1.25), (1.0, 1.0, 4.0), None),  # and the new spacing is not asked
    ],
)
def test_which_axis_is_separate(
    current: tuple[float, float, float], new: tuple[float, float, float], axis: int | None
) -> None:
    assert ModelGridRule(new, NNUNET).separate_axis(current, new) == axis
    never, always = (NNUNET.model_copy(update={"separate_z": separate}) for separate in (False, True))
    assert ModelGridRule(new, never).separate_axis(current, new) is None
    longest = [i for i in range(3) if current[i] == max(current)]
    assert ModelGridRule(new, always).separate_axis(current, new) == (longest[0] if len(longest) == 1 else None)
    assert ModelGridRule(new).separate_axis(current, new) is None


def test_halves_of_shapes_are_rounded_to_even_numbers() -> None:
    source = Geometry((5, 7, 9), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert ModelGridRule((2.0, 2.0, 2.0), NNUNET).grid_of(source).shape == (2, 4, 4)


@pytest.mark.parametrize("wanted", [(1.5, 0.7, 2.0), (1.0, 1.0, 1.0005), (0.9, 3.0, 2.5)])
@pytest.mark.parametrize(("mode", "interpolation"), [("bilinear", "linear"), (3, "cubic")])
def test_monai_keeps_the_first_voxel(wanted: tuple[float, ...], mode: str | int, interpolation: str) -> None:
    affine = np.array([[0.0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 2.5, 4], [0, 0, 0, 1]])
    image, source = noise(*SHAPE), Geometry(SHAPE, affine)
    rule = ModelGridRule(wanted, Resampling(rule="monai", interpolation=interpolation))  # type: ignore[arg-type]
    ours, target = on_model_grid(image, rule, source)
    padding = "border" if mode == "bilinear" else "nearest"
    spaced = Spacingd("image", wanted, mode=mode, padding_mode=padding)
    theirs = spaced({"image": MetaTensor(image, affine=torch.from_numpy(affine))})["image"]
    assert np.allclose(target.affine, theirs.affine.numpy(), atol=1e-6)
    assert theirs.shape[1:] == target.shape
    assert np.abs(ours - theirs.numpy()).max() < 1e-3


@pytest.mark.parametrize("spacing", [(0.75, 2.25, 0.3), (0.9765625, 2.5, 3.27), (-0.5, 1.0, 4.5)])
def test_label_maps_come_back_as_by_invertd(spacing: tuple[float, ...]) -> None:
    """Many voxels lie in the middle between two of the model grid, and the header's float32 is not quite there."""
    affine = np.diag([*spacing, 1.0]).astype(np.float32).astype(np.float64)
    affine[:3, 3] = (30.7, -20, 4)
    image = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(affine))
    undone = Compose([Orientationd("image", "RAS", labels=None), Spacingd("image", (1.5, 1.5, 1.5), mode="bilinear")])
    case = undone({"image": image})
    label_map = torch.randint(0, 9, case["image"].shape, generator=torch.Generator().manual_seed(0))
    case["label_map"] = MetaTensor(label_map.float(), affine=case["image"].affine, meta=case["image"].meta)
    theirs = Invertd("label_map", undone, "image", nearest_interp=True)(case)["label_map"][0].numpy()
    rule = ModelGridRule((1.5, 1.5, 1.5), Resampling(rule="monai", interpolation="linear", restored="labels"))
    source = Geometry(SHAPE, affine)
    oriented = source.oriented_as("RAS")
    model = rule.grid_of(oriented)
    ours = restore_label_map(label_map[0], model, source, rule.nearest_axes_back(oriented)).numpy()
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("order", "interpolation"), [(0, "nearest"), (1, "linear")])
def test_corners_is_the_zoom_of_scipy(order: int, interpolation: str) -> None:
    image, source = noise(*SHAPE), Geometry(SHAPE, np.diag([0.7, 1.1, 5.0, 1.0]))
    wanted = (1.5, 1.5, 1.5)
    by = Resampling(rule="corners", interpolation=interpolation, whole_numbers=True)  # type: ignore[arg-type]
    ours, target = on_model_grid(image, ModelGridRule(wanted, by), source)
    zoom = np.array(source.spacing) / wanted
    for own, channel in zip(ours, image.numpy(), strict=True):
        theirs = ndimage.zoom(channel.astype(float), zoom, order=order)
        assert own.shape == theirs.shape
        different = own != theirs.astype(np.int32)  # a value next to a whole number may fall on its other side
        assert different.mean() < 1e-4
    assert np.allclose(target.world(np.array(target.shape) - 1), source.world(np.array(SHAPE) - 1))


def slabs(restoring: Restoring, logits: torch.Tensor, height: int) -> np.ndarray:
    last, axis = logits.permute(1, 2, 3, 0), restoring.axis
    for start in range(0, last.shape[axis], height):
        first, stop = max(start - 1, 0), min(start + height, last.shape[axis])
        restoring.take(last.narrow(axis, first, stop - first).contiguous(), first)
    return restoring.label_map


@pytest.mark.parametrize("wanted", [(1.0, 1.0, 1.2), (1.0, 1.0, 6.0), (0.5, 1.6, 4.0)])
@pytest.mark.parametrize("height", [2, 50])
@pytest.mark.parametrize("axis", [0, 2])
def test_logits_come_back_by_the_rule_of_nnunet_slab_by_slab(wanted: tuple[float, ...], height: int, axis: int) -> None:
    source = Geometry((24, 21, 12), np.diag([-0.8, 0.8, 4.0, 1.0]))
    rule = ModelGridRule(wanted, NNUNET)
    model = rule.grid_of(source)
    logits = noise(*model.shape, channels=5)
    nearest = rule.nearest_axes_back(source)
    assert nearest.axes == (2,)
    theirs = np.stack([sliced(each, source.shape, 1, 2) for each in logits.numpy()])
    margin = np.diff(np.sort(theirs, axis=0)[-2:], axis=0)[0]
    ours = slabs(Restoring(model, source, axis, nearest=nearest), logits, height)
    assert (ours == theirs.argmax(0))[margin > 1e-3].all()
    assert (margin > 1e-3).mean() > 0.99
    restored: list[torch.Tensor] = []
    whole = Restoring(model, source, axis, [lambda part: restored.append(part.logits())], nearest=nearest)
    slabs(whole, logits, height)
    assert np.abs(torch.cat(restored, axis + 1).numpy() - theirs).max() < 1e-3


def test_labels_come_back_from_the_nearest_voxel() -> None:
    source = Geometry(SHAPE, np.diag([0.7, 1.1, 5.0, 1.0]))
    rule = ModelGridRule((1.5, 1.5, 1.5), Resampling(rule="corners", interpolation="linear", restored="labels"))
    model = rule.grid_of(source)
    logits = noise(*model.shape, channels=4)
    factors = np.array(source.shape) / model.shape
    theirs = ndimage.zoom(logits.argmax(0).numpy().astype(np.uint8), factors, order=0)
    assert np.array_equal(restore(logits, model, source, nearest=rule.nearest_axes_back(source)), theirs)


def filled(image: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes((image != 0).any(0))  # type: ignore[no-any-return]


@pytest.fixture
def brain() -> np.ndarray:
    """Two channels, zero around a ball, with a hole in it and zeros in one channel only."""
    values = noise(20, 22, 18).numpy()
    places = np.indices(values.shape[1:]).reshape(3, -1).T - np.array([9, 12, 8])
    distance = np.linalg.norm(places, axis=1).reshape(values.shape[1:])
    values[:, (distance > 7) | (distance < 2)] = 0
    values[1, distance > 5] = 0
    return values


def test_enclosed_zeros_count_where_holes_are_filled(brain: np.ndarray) -> None:
    mask = filled(brain)
    assert mask.sum() > (brain != 0).any(0).sum()
    ours = normalized(torch.from_numpy(brain), [Normalization(kind="zscore", nonzero=True)] * 2, fill_holes=True)
    for own, channel in zip(ours.numpy(), brain, strict=True):
        expected = np.where(mask, (channel - channel[mask].mean()) / channel[mask].std(), 0)
        assert np.abs(own - expected).max() < 1e-5
    flat = brain[:, :, :, 8:9]  # in a single slice nothing is enclosed
    assert filled(flat).sum() == (flat != 0).any(0).sum()
    alike = normalized(torch.from_numpy(flat), [Normalization(kind="zscore", nonzero=True)] * 2, fill_holes=True)
    assert np.array_equal(alike[0].numpy() != 0, flat[0] != 0)


def test_values_are_scaled_without_clipping_and_to_a_range() -> None:
    image = noise(6, 7, 8, channels=3)
    rules = [
        Normalization(kind="linear", mean=100, std=50),
        Normalization(kind="none", rescaled=(0, 1)),
        Normalization(kind="zscore", rescaled=(-1, 1)),
    ]
    first, second, third = normalized(image, rules)
    assert torch.allclose(first, (image[0] - 100) / 50)
    assert torch.allclose(second, (image[1] - image[1].min()) / (image[1].max() - image[1].min()))
    assert (float(third.min()), float(third.max())) == (-1, 1)
    assert torch.equal(normalized(torch.full((1, 2, 2, 2), 3.0), [rules[1]]), torch.zeros(1, 2, 2, 2))


def nnunet_grid() -> Grid:
    rule = Normalization(kind="zscore", nonzero=True)
    return Grid(
        orientation="stored", spacing=(1.0, 1.0, 9.0), own_spacing=(2,), crop_to_nonzero=True, fill_holes=True,
        normalization=(rule, rule), resampling=NNUNET,
    )  # fmt: skip


def corners_grid() -> Grid:
    return Grid(
        orientation="RAS", spacing=(1.0, 1.0, 1.5), crop_to_nonzero=True,
        normalization=(Normalization(kind="zscore"),) * 2, resample_first=True,
        resampling=Resampling(rule="corners", interpolation="linear", whole_numbers=True),
    )  # fmt: skip


@pytest.mark.parametrize("grid_of", [nnunet_grid, corners_grid])
def test_the_compose_does_the_same_and_its_inverse_too(grid_of: Callable[[], Grid], brain: np.ndarray) -> None:
    affine = np.array([[0.0, -0.8, 0, 30], [0.8, 0, 0, -20], [0, 0, -2.5, 4], [0, 0, 0, 1]])
    source, grid = Geometry((20, 22, 18), affine), grid_of()
    prepared = prepare(Volume(brain, source), None, grid)
    preprocess = build_preprocessing(grid)
    case = preprocess({"image": MetaTensor(torch.from_numpy(brain), affine=torch.from_numpy(affine))})
    assert np.allclose(case["image"].affine.numpy(), prepared.geometry.affine)
    assert torch.allclose(case["image"].as_tensor(), prepared.image, atol=1e-5)
    logits = noise(*prepared.geometry.shape, channels=3)
    rule = ModelGridRule.of(grid)
    own = restore(logits, prepared.geometry, source, nearest=rule.nearest_axes_back(grid.oriented(source)))
    case["prediction"] = MetaTensor(logits)
    back = Invertd("prediction", preprocess, "image", nearest_interp=False)(case)["prediction"]
    # Where cropping comes last, MONAI interpolates into the zeros that it pads with.
    assert (back.argmax(0).numpy() == own)[own > 0].mean() > 0.999
    assert (own > 0).mean() > 0.1


def test_a_plan_as_it_is_stored_leaves_the_axes_and_crops_first(brain: np.ndarray) -> None:
    affine = np.array([[0.0, -0.8, 0, 30], [0.8, 0, 0, -20], [0, 0, -2.5, 4], [0, 0, 0, 1]])
    prepared = prepare(Volume(brain, Geometry((20, 22, 18), affine)), None, nnunet_grid())
    mask = filled(brain)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    cropped, inside = brain[(slice(None), *box)], mask[box]
    shape = tuple(round(mm * n) for mm, n in zip((0.8, 0.8, 1.0), inside.shape, strict=True))
    assert prepared.geometry.shape == shape and prepared.geometry.orientation == prepared.source.orientation
    for own, channel in zip(prepared.image.numpy(), cropped, strict=True):
        standardized = np.where(inside, (channel - channel[inside].mean()) / channel[inside].std(), 0)
        assert np.abs(own - sliced(standardized, shape, 3, 2)).max() < 1e-4


@pytest.mark.parametrize("wanted", [(0.8, 2.0, 1.25), (2.0, 2.0, 2.5), (1.3, 0.8, 2.1)])
def test_masks_of_labels_are_resampled_as_the_label_map_that_they_make_up(wanted: tuple[float, ...]) -> None:
    """As by batchgenerators 0.25.5: the label of the largest share, of equal ones that of the nearest voxel."""
    source = Geometry(SHAPE, np.diag([1.0, 1.0, 2.5, 1.0]))
    labels = np.random.default_rng(0).integers(0, 4, SHAPE)
    labels[:14] = np.kron(labels[:14:7, ::11, ::8], np.ones((7, 11, 8), int))  # large ones, besides single voxels
    rule = ModelGridRule(wanted, NNUNET, masks=(1, 2, 3))
    images = torch.from_numpy(np.stack([labels * 10.0, *(labels == value for value in (1, 2, 3))])).float()
    ours, target = on_model_grid(images, rule, source)
    shares = np.stack([resized(labels == value, target.shape, 1) for value in range(4)])
    tied = shares > shares.max(0) - 1e-6
    nearest = resized(labels, target.shape, 0).astype(int)
    expected = np.where(np.take_along_axis(tied, nearest[None], 0)[0], nearest, tied.argmax(0))
    assert (tied.sum(0) > 1).any()
    assert np.array_equal(ours[1:], [expected == value for value in (1, 2, 3)])


@pytest.mark.parametrize("rule", ["medseg", "nnunet", "monai", "corners"])
def test_an_absurd_spacing_is_refused(rule: str) -> None:
    absurd = ModelGridRule((1.0, 1e-9, 1e-9), Resampling(rule=rule))  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match=r"of 1\.\de\+\d+ voxels at the 1×1e-09×1e-09 mm of the model"):
        absurd.grid_of(Geometry((10, 11, 12), np.eye(4)))


def test_what_lies_outside_of_the_image_is_a_label_of_its_own_while_masks_are_resampled() -> None:
    """As by nnU-Net, which has -1 there: a label with less than half of a voxel may have more than either."""
    source = Geometry(SHAPE, np.diag([1.0, 1.0, 2.5, 1.0]))
    labels = np.random.default_rng(0).integers(-1, 3, SHAPE)
    rule = ModelGridRule((1.3, 0.8, 2.1), NNUNET, masks=(0, 1))
    masks = torch.from_numpy(np.stack([np.where(labels < 0, -1, labels == value) for value in (1, 2)])).float()
    ours, target = on_model_grid(masks, rule, source)
    shares = np.stack([resized(labels == value, target.shape, 1) for value in range(-1, 3)])
    tied = shares > shares.max(0) - 1e-6
    nearest = resized(labels, target.shape, 0).astype(int)
    expected = np.where(np.take_along_axis(tied, nearest[None] + 1, 0)[0], nearest, tied.argmax(0) - 1)
    assert np.array_equal(ours, [expected == value for value in (1, 2)])
    alone, _ = on_model_grid(masks.clamp(min=0), rule, source)
    assert not np.array_equal(ours, alone)
    same, _ = on_model_grid(masks, ModelGridRule((1.0, 1.0, 2.5), NNUNET, masks=(0, 1)), source)
    assert np.array_equal(same, masks.clamp(min=0))


def test_what_a_mask_has_a_label_for_is_not_outside_of_the_image(brain: np.ndarray) -> None:
    outside = ~filled(brain)
    mask = np.zeros(brain.shape[1:], np.float32)
    mask[1:4, 2:20, 3:15] = 1  # partly outside
    rule = Normalization(kind="zscore", nonzero=True)
    image = torch.from_numpy(np.concatenate([brain, mask[None]]))
    ours = normalized(image, [rule, rule, Normalization(kind="mask")], fill_holes=True).numpy()
    inside = ~outside | (mask > 0)
    for own, channel in zip(ours, brain, strict=False):
        expected = np.where(inside, (channel - channel[inside].mean()) / channel[inside].std(), 0)
        assert np.abs(own - expected).max() < 1e-5
    assert np.array_equal(ours[2], np.where(mask > 0, 1, np.where(outside, -1, 0)))


def test_halves_are_rounded_as_by_the_header_where_axes_are_tilted() -> None:
    """nnU-Net takes spacings from the header: 35 voxels of 1 mm are 17.5 of 2 mm, and 18 in the end."""
    angle = np.deg2rad(17.0)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn.astype(np.float32)
    source = Geometry((35, 35, 35), affine)
    assert min(source.spacing) < 1
    assert ModelGridRule((2.0, 2.0, 2.0), NNUNET).grid_of(source).shape == (18, 18, 18)
