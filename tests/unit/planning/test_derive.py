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
        ((512, 512, 300), (64, 64, 32)),  # large ones as ever
    ],
)
def test_on_a_processor_patches_lie_inside_of_small_images(
    shape: tuple[int, int, int], patch: tuple[int, int, int]
) -> None:
    plan = derive_plans(measured(shape, (1, 1, 1), n=260), ["MRI"], Config()).plan_3d
    assert plan is not None
    assert fit_to_cpu(plan, Config()).patch_size == patch


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
            assert np.prod(plan.patch_size) <= budget
        assert plan.batch_size >= 2


@pytest.mark.parametrize("shape", [(512, 512, 4), (512, 512, 5), (512, 512, 7), (5, 5, 9000), (3, 2000, 40)])
def test_axes_that_are_too_short_to_shrink_leave_it_to_the_others(shape: tuple[int, int, int]) -> None:
    config = Config()
    plans = derive_plans(measured(shape, (1, 1, 1)), ["MR"], config)
    for plan in (plans.plan_2d, plans.plan_3d):
        if plan is not None:
            small = fit_to_cpu(plan, config)
            assert small.patch_size[int(np.argmin(shape))] <= min(shape)
            assert np.prod(small.patch_size) <= config.planning.cpu_patch_voxels


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
