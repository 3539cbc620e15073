import numpy as np
import pytest
from fingerprints import measured

from medseg.config import Config, load
from medseg.errors import ConfigError
from medseg.planning.derive import derive_plans, fit_to_cpu, take_chosen_patch, target_spacing


def test_hippocampus_gets_the_plan_of_nnunet() -> None:
    """nnU-Net's published plan: patch 40×56×40, features 32-64-128-256, three poolings on each axis."""
    plan = derive_plans(measured((36, 50, 35), (1, 1, 1), n=260), ["MRI"], Config()).plan_3d
    assert plan is not None
    assert plan.patch_size == (40, 56, 40)
    assert plan.batch_size == 9
    assert plan.architecture.features == (32, 64, 128, 256)
    assert plan.architecture.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((36, 50, 35), (32, 48, 32)),
        ((40, 56, 40), (40, 56, 40)),
        ((39, 47, 17), (32, 40, 16)),
        ((15, 22, 60), (12, 20, 48)),
        ((512, 512, 300), (128, 128, 64)),  # at half the resolution, else it shows a thousandth
    ],
)
def test_on_a_processor_patches_lie_inside_of_small_images(
    shape: tuple[int, int, int], patch: tuple[int, int, int]
) -> None:
    plan = derive_plans(measured(shape, (1, 1, 1), n=260), ["MRI"], Config()).plan_3d
    assert plan is not None
    assert fit_to_cpu(plan, Config()).patch_size == patch


def test_networks_begin_at_half_the_resolution_where_a_patch_would_show_little() -> None:
    """Thick slices: only within them. The patch shows four times as much, and has as many voxels of the first stage."""
    full = derive_plans(measured((165, 161, 59), (0.98, 0.98, 3.27)), ["CT"], Config()).plan_3d
    assert full is not None
    fine = fit_to_cpu(full, load(overrides=["planning.cpu_half_resolution=false"]))
    half = fit_to_cpu(full, Config())
    assert np.prod(fine.patch_size) < 0.25 * np.prod(full.median_shape or ())
    assert fine.architecture.strides[:2] == ((1, 1, 1), (2, 2, 1))
    assert half.architecture.strides[0] == (2, 2, 1)
    assert half.architecture.features == fine.architecture.features
    assert 3 < np.prod(half.patch_size) / np.prod(fine.patch_size) < 5
    assert half.grid == fine.grid == full.grid and half.median_shape == full.median_shape


def test_patches_smaller_than_usual_do_not_make_images_large() -> None:
    """The studies of ``medseg demo``, whose patches are a quarter of the usual ones: at half resolution Dice fell."""
    full = derive_plans(measured((76, 64, 28), (5, 5, 6.75)), ["CT"], Config()).plan_3d
    assert full is not None
    small = fit_to_cpu(full, load(overrides=["planning.cpu_patch_voxels=32768"]))
    assert small.architecture.strides[0] == (1, 1, 1)
    assert np.prod(small.patch_size) <= 32768


@pytest.mark.parametrize(
    "setting", ["planning.patch_size=[32,32,16]", "network.name=dynunet", "network.features=[8,16,32,64,128]"]
)
def test_what_the_user_chose_begins_at_full_resolution(setting: str) -> None:
    config = load(overrides=[setting, "planning.cpu_half_resolution=true"])
    full = derive_plans(measured((165, 161, 59), (0.98, 0.98, 3.27)), ["CT"], Config()).plan_3d
    assert full is not None
    assert fit_to_cpu(full, config).architecture.strides[0] == (1, 1, 1)


def test_2d_networks_begin_at_half_the_resolution_where_they_are_told_to() -> None:
    plan = derive_plans(measured((512, 512, 1), (1, 1, 1)), ["EM"], Config()).plan_2d
    assert fit_to_cpu(plan, Config()).architecture.strides[0] == (1, 1)
    half = fit_to_cpu(plan, load(overrides=["planning.cpu_half_resolution=true"]))
    assert half.architecture.strides[0] == (2, 2)
    assert half.patch_size == (384, 384, 1)


def test_thick_slices_are_pooled_later_and_convolved_in_plane() -> None:
    plan = derive_plans(measured((320, 320, 20), (0.6, 0.6, 3.6)), ["MR"], Config()).plan_3d
    assert plan is not None
    assert plan.architecture.kernel_sizes[0] == (3, 3, 1)
    assert plan.architecture.strides[1] == (2, 2, 1)
    assert plan.patch_size[2] == 20


@pytest.mark.parametrize("shape", [(36, 50, 35), (512, 512, 482), (320, 320, 20), (170, 180, 58), (97, 13, 211)])
@pytest.mark.parametrize("cpu", [True, False])
def test_patches_fit_their_network_and_their_budget(shape: tuple[int, int, int], cpu: bool) -> None:
    config = Config()
    plans = derive_plans(measured(shape, (0.8, 0.8, 1.5)), ["MR"], config)
    for plan in (plans.plan_2d, plans.plan_3d):
        assert plan is not None
        if cpu:
            plan = fit_to_cpu(plan, config)
        divisor = np.prod(plan.architecture.strides, axis=0)
        assert not any(edge % d for edge, d in zip(plan.network_patch, divisor, strict=True))
        assert len(plan.architecture.features) == len(plan.architecture.strides)
        budget = config.planning.cpu_patch_voxels if cpu else config.planning.max_patch_voxels
        if plan.dims == 3:
            assert np.prod(plan.patch_size) <= budget * np.prod(plan.architecture.strides[0])
        assert plan.batch_size >= 2


@pytest.mark.parametrize("shape", [(512, 512, 4), (512, 512, 5), (512, 512, 7), (5, 5, 9000), (3, 2000, 40)])
def test_axes_that_are_too_short_to_shrink_leave_it_to_the_others(shape: tuple[int, int, int]) -> None:
    config = Config()
    plans = derive_plans(measured(shape, (1, 1, 1)), ["MR"], config)
    for plan in (plans.plan_2d, plans.plan_3d):
        if plan is not None:
            small = fit_to_cpu(plan, config)
            assert small.patch_size[int(np.argmin(shape))] <= min(shape)
            assert np.prod(small.patch_size) <= config.planning.cpu_patch_voxels * np.prod(
                small.architecture.strides[0]
            )


def test_smaller_patches_make_larger_batches() -> None:
    config = Config()
    plan = derive_plans(measured((512, 512, 1), (1, 1, 1)), ["EM"], config).plan_2d
    small = fit_to_cpu(plan, config)
    assert (plan.batch_size, plan.network_patch) == (2, (512, 512))
    assert (small.batch_size, small.network_patch) == (10, (192, 192))


def test_flat_images_have_no_3d_plan() -> None:
    plans = derive_plans(measured((512, 512, 1), (1, 1, 1)), ["EM"], Config())
    assert plans.plan_3d is None
    assert plans.plan_2d.slice_axis == 2
    assert plans.plan_2d.network_patch == (512, 512)


def test_2d_networks_do_not_see_the_coarsest_axis() -> None:
    assert derive_plans(measured((60, 170, 180), (3.3, 1, 1)), ["MR"], Config()).plan_2d.slice_axis == 0


def test_target_spacing_of_thick_slices_is_their_tenth_percentile() -> None:
    spacings = tuple((0.8, 0.8, z) for z in np.linspace(3, 6, 11))
    base = measured((512, 512, 40), (0.8, 0.8, 5.0), n=11)
    target = target_spacing(base.model_copy(update={"spacings": spacings}))
    assert target == pytest.approx((0.8, 0.8, np.percentile(np.linspace(3, 6, 11), 10)))


def test_normalization_follows_the_modality() -> None:
    ct = derive_plans(measured((60, 60, 60), (1, 1, 1)), ["CT"], Config()).plan_2d.grid.normalization[0]
    assert (ct.kind, ct.lower, ct.upper, ct.mean, ct.std) == ("ct", -20, 180, 60, 30)
    mr = derive_plans(measured((60, 60, 60), (1, 1, 1), cropped_part=0.5), ["T1"], Config()).plan_2d.grid
    assert (mr.normalization[0].kind, mr.normalization[0].nonzero) == ("zscore", True)
    chosen = load(overrides=["preprocessing.normalization=none"])
    assert derive_plans(measured((60, 60, 60), (1, 1, 1)), ["CT"], chosen).plan_2d.grid.normalization[0].kind == "none"


def test_a_chosen_patch_and_spacing_are_taken() -> None:
    config = load(overrides=["planning.patch_size=[64,64,32]", "preprocessing.spacing=[2,2,2]"])
    plans = derive_plans(measured((200, 200, 100), (1, 1, 1)), ["MR"], config)
    assert plans.plan_3d is not None
    assert plans.plan_3d.patch_size == (64, 64, 32)
    assert plans.plan_2d.network_patch == (64, 64)
    assert plans.plan_2d.grid.spacing == (2, 2, 2)
    # Larger than what a processor would get: what was chosen is taken all the same.
    large = load(overrides=["planning.patch_size=[96,96,64]"])
    plan = take_chosen_patch(fit_to_cpu(plans.plan_3d, large), large)
    assert plan.patch_size == (96, 96, 64)
    assert plan.architecture.features[0] == 16
    assert take_chosen_patch(plans.plan_2d, large).network_patch == (96, 96)
    assert take_chosen_patch(plan, Config()) == plan
    with pytest.raises(ConfigError, match=r"planning.patch_size has 1 numbers"):
        derive_plans(measured((200, 200, 100), (1, 1, 1)), ["MR"], load(overrides=["planning.patch_size=[64]"]))


def test_networks_that_are_compared_begin_at_one_resolution() -> None:
    full = derive_plans(measured((165, 161, 59), (0.98, 0.98, 3.27)), ["CT"], Config()).plan_3d
    assert full is not None
    of_each = [
        fit_to_cpu(full, load(overrides=["training.fit_to_time=false", f"network.name={name}"]))
        for name in ("unet", "residual-unet")
    ]
    assert of_each[0] == of_each[1]
