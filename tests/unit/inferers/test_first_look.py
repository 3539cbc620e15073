import pytest
import torch
from sliding import CPU, plan

from medseg.config import InferenceConfig
from medseg.inferers.first_look import MARGIN_MM, averaged_down, first_look
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import SegmentationResult, segment
from medseg.plan import Plan
from medseg.transforms.prepared import Prepared
from medseg.volume import Geometry

SHAPE = (100, 40, 40)


class Bright(torch.nn.Module):
    """Label 1 above ``level``; counts what it sees."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level
        self.windows = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows += len(image)
        return torch.cat([torch.full_like(image, self.level), image], dim=1)


def scan(*, with_structure: bool = True) -> torch.Tensor:
    image = 0.1 * torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    if with_structure:
        image[:, 10:20, 15:25, 15:25] = 1
    return image


def segmented(network: torch.nn.Module, image: torch.Tensor, plan_: Plan, **settings: object) -> SegmentationResult:
    x, y, z = image.shape[1:]
    geometry = Geometry((x, y, z), torch.eye(4).double().numpy())
    prepared = Prepared(image, None, geometry, geometry)
    return segment(Predictor(network, plan_, CPU), prepared, InferenceConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("dims", [2, 3])
def test_what_was_found_is_segmented_as_without_it_and_fewer_windows_are_asked(dims: int) -> None:
    all_of_it, near = Bright(), Bright()
    expected = segmented(all_of_it, scan(), plan(dims), overlap=0.25)
    result = segmented(near, scan(), plan(dims), overlap=0.25, first_look=True)
    assert (result.label_map == expected.label_map).all() and result.label_map.any()
    assert near.windows < 0.7 * all_of_it.windows
    assert result.windows == expected.windows
    assert expected.skipped_windows < result.skipped_windows < result.windows
    assert "first look: only what lies within" in result.warnings[0]


def test_the_region_has_the_margin_it_says() -> None:
    mask = first_look(Predictor(Bright(), plan(3), CPU), scan(), InferenceConfig()).mask
    assert mask is not None
    behind = int(20 + MARGIN_MM)
    assert mask.touches((slice(behind - 1, behind), slice(20, 21), slice(20, 21)))
    assert not mask.touches((slice(behind + 16, behind + 20), slice(20, 21), slice(20, 21)))


def test_where_nothing_is_found_everything_is_segmented_finely() -> None:
    """A structure of one voxel is lost at half the resolution, not when nothing else is there."""
    image = scan(with_structure=False)
    image[:, 90, 20, 20] = 1
    result = segmented(Bright(), image, plan(3), first_look=True)
    assert result.label_map.sum() == result.label_map[90, 20, 20] == 1
    assert result.skipped_windows == 0
    assert result.warnings == (
        "first look: nothing was found at half the resolution, so everything was segmented finely",
    )


def test_what_the_first_look_misses_far_from_what_it_finds_is_lost() -> None:
    image = scan()
    image[:, 90, 20, 20] = 1
    assert segmented(Bright(), image, plan(3)).label_map[90, 20, 20] == 1
    assert segmented(Bright(), image, plan(3), first_look=True).label_map[90, 20, 20] == 0


def test_small_images_get_no_first_look() -> None:
    small = segmented(Bright(), scan()[:, :8, :8, :8], plan(3), first_look=True)
    assert "too small" in small.warnings[0] and small.skipped_windows == 0


class BrightOrEven(Bright):
    """Finds structures in even windows too, as networks with instance normalization may."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        even = image.amax((1, 2, 3, 4), keepdim=True) - image.amin((1, 2, 3, 4), keepdim=True) < 1e-6
        return super().forward(image + 9 * even)


def test_what_lies_outside_of_the_region_is_background_whatever_the_network_says_of_air() -> None:
    result = segmented(BrightOrEven(), scan(), plan(3), first_look=True)
    assert result.label_map[10:20, 15:25, 15:25].all() and not result.label_map[60:].any()


def test_the_shrunk_image_has_the_means_of_what_there_is() -> None:
    image = torch.arange(5.0).view(1, 5, 1, 1)
    assert averaged_down(image, (2, 1, 1)).flatten().tolist() == [0.5, 2.5, 4.0]
