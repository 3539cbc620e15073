"""A session: prompts reach the network where they lie, answers lie where they belong, and nothing else changes."""

import numpy as np
import pytest
from promptable import BOX, INSIDE, PREVIOUS, RADIUS_MM, channel, model_of, windows_seen

from medseg.errors import GeometryError, ModelError
from medseg.interactive.session import InteractiveSession
from medseg.volume import Geometry, Volume

TURN = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])


def affine(matrix: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = matrix @ np.diag(spacing)
    result[:3, 3] = (-30, 20, 7)
    return result


GRIDS = {
    "RAS": affine(np.eye(3)),
    "LPS, thick slices": affine(np.diag([-1, -1, 1]), (0.8, 0.8, 2.5)),
    "axes permuted": affine(np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]]), (1.5, 1, 0.7)),
    "oblique": affine(TURN, (1.2, 1.2, 2)),
    "sheared": affine(np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 1]])),
}


def volume(box: tuple[slice, ...], shape: tuple[int, int, int] = (40, 36, 24), grid: str = "RAS") -> Volume:
    """A bright box in the dark."""
    array = np.zeros((1, *shape), dtype=np.float32)
    array[0][box] = 1
    return Volume(array, Geometry(shape, GRIDS[grid]))


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    return 2 * (mask & other).sum() / (mask.sum() + other.sum())


@pytest.mark.parametrize("grid", GRIDS)
def test_a_point_reaches_the_network_at_its_place(grid: str) -> None:
    """The network answers with the ball that it sees: its middle is the voxel that was clicked, its radius in mm."""
    session = InteractiveSession(model_of(channel(INSIDE)), volume((), grid=grid))
    session.add_point((11, 25, 9))
    found = np.argwhere(session.mask)
    in_mm = session.image.geometry.world(found) - session.image.geometry.world((11, 25, 9))
    assert np.abs(in_mm.mean(0)).max() < 0.75
    assert RADIUS_MM - 1.5 < np.linalg.norm(in_mm, axis=1).max() < RADIUS_MM + 1.5


@pytest.mark.parametrize("grid", GRIDS)
def test_a_mask_lies_on_the_grid_of_the_image(grid: str) -> None:
    image = volume(np.s_[18:25, 14:22, 8:15], grid=grid)
    session = InteractiveSession(model_of(), image)
    session.add_point((20, 18, 11))
    assert session.mask.shape == image.geometry.shape
    assert dice(session.mask, image.array[0] > 0.5) > 0.93


def test_what_the_network_has_a_label_for_is_another_object() -> None:
    """The network answers with a ball, half of which it says is of its label, until a prompt lies in that."""
    image = volume(np.s_[20:], shape=(40, 40, 40))
    session = InteractiveSession(model_of(channel(INSIDE)), image)
    session.add_point((19, 20, 20))
    assert session.mask[19, 20, 20] and session.mask[:20].sum() > 30 and not session.mask[20:].any()
    session.add_point((20, 20, 20))
    assert session.mask[20:].sum() > 30
    session.undo()
    assert not session.mask[20:].any()


@pytest.mark.parametrize("grid", ["LPS, thick slices", "axes permuted", "sheared"])
def test_changes_add_up_to_the_mask(grid: str) -> None:
    """What a client is told, step by step, is the mask that the server has."""
    image = volume(np.s_[18:25, 14:22, 8:15], grid=grid)
    session = InteractiveSession(model_of(), image)
    told = np.zeros(image.geometry.shape, dtype=bool)
    steps = (
        lambda: session.add_point((20, 18, 11)),
        lambda: session.add_point((24, 15, 13), positive=False),
        lambda: session.add_box(((17, 26), (13, 23), (9, 10))),
        lambda: session.add_scribble(np.ones((3, 1, 1), dtype=bool), origin=(19, 17, 10), predict=False),
        session.predict,
        session.undo,
        session.undo,
        session.reset,
        session.undo,
    )
    for step in steps:
        change = step()
        told[tuple(slice(low, high) for low, high in change.bounds)] = change.mask
        np.testing.assert_array_equal(told, session.mask)
    assert told.any()


def test_an_object_that_is_larger_than_the_window_is_found_whole_and_in_detail() -> None:
    image = volume(np.s_[3:60, 10:19, 9:17], shape=(80, 30, 30))
    model = model_of()
    session = InteractiveSession(model, image)
    session.add_point((8, 14, 12))
    assert dice(session.mask, image.array[0] > 0.5) > 0.98
    assert {each.shape for each in windows_seen(model)} == {(8, 16, 16, 16)}


def test_beyond_the_window_nothing_changes() -> None:
    image = volume(np.s_[3:9, 3:9, 3:9], shape=(80, 30, 30))
    image.array[0, 60:70, 10:16, 10:16] = 1
    session = InteractiveSession(model_of(), image)
    session.add_point((5, 5, 5))
    assert session.mask[:40].any() and not session.mask[40:].any()
    change = session.add_point((65, 12, 12))
    assert session.mask[:40].any() and session.mask[60:70, 10:16, 10:16].all() and change.bounds[0] == (60, 70)


def test_the_network_sees_the_mask_that_was_given() -> None:
    given = np.zeros((40, 36, 24), dtype=bool)
    given[12:20, 10:18, 5:11] = True
    session = InteractiveSession(model_of(channel(PREVIOUS)), volume(()))
    change = session.add_initial_mask(given[10:22], origin=(10, 0, 0))
    assert change.bounds == ((12, 20), (10, 18), (5, 11))
    assert session.predict().is_empty  # its answer is what it sees
    np.testing.assert_array_equal(session.mask, given)


def test_a_box_is_seen_whole_however_large_it_is() -> None:
    session = InteractiveSession(model_of(channel(BOX)), volume((), shape=(60, 60, 30)))
    session.add_box(((5, 45), (8, 40), (4, 20)))
    expected = np.zeros((60, 60, 30), dtype=bool)
    expected[5:45, 8:40, 4:20] = True
    assert dice(session.mask, expected) > 0.9


def test_undo_goes_back_bit_by_bit() -> None:
    session = InteractiveSession(model_of(), volume(np.s_[18:25, 14:22, 8:15]))
    session.add_point((20, 18, 11))
    before, prompts = session.mask, session.prompts
    session.add_point((24, 15, 13), positive=False)
    assert (session.mask != before).any()
    session.undo()
    np.testing.assert_array_equal(session.mask, before)
    assert session.prompts == prompts
    session.undo()
    assert not session.mask.any() and session.prompts == ()
    assert session.undo().is_empty  # there is nothing before the beginning


def test_objects_have_their_own_prompts_and_masks() -> None:
    image = volume(np.s_[3:9, 3:9, 3:9])
    image.array[0, 30:36, 20:26, 12:18] = 1
    session = InteractiveSession(model_of(), image)
    session.object = "kidney"
    session.add_point((5, 5, 5))
    session.object = "tumour"
    assert not session.mask.any() and session.prompts == ()
    session.add_initial_mask(np.ones((4, 4, 4), dtype=bool), origin=(7, 7, 7))
    assert session.objects == ("kidney", "tumour")
    label_map = session.label_map
    assert label_map.dtype == np.uint8 and label_map[5, 5, 5] == 1 and label_map[8, 8, 8] == 2  # the later one on top
    session.object = "kidney"
    assert session.mask[8, 8, 8] and len(session.prompts) == 1


def test_without_prompts_the_labels_are_segmented() -> None:
    image = volume(np.s_[18:25, 14:22, 8:15], grid="LPS, thick slices")
    found = InteractiveSession(model_of(), image).automatic()
    assert found.shape == image.geometry.shape
    assert dice(found == 1, image.array[0] > 0.5) > 0.93


def test_prompts_that_wait_are_answered_together() -> None:
    model = model_of(channel(INSIDE), patch=(32, 32, 24))
    session = InteractiveSession(model, volume(()))
    assert session.add_point((5, 5, 5), predict=False).is_empty
    assert session.add_point((25, 25, 15), predict=False).is_empty
    assert windows_seen(model) == []
    session.predict()
    assert session.mask[5, 5, 5] and session.mask[25, 25, 15]


def test_a_2d_network_answers_on_the_slices_of_the_prompts() -> None:
    image = volume(np.s_[18:25, 14:22, 8:15])
    session = InteractiveSession(model_of(patch=(16, 16, 1), slice_axis=2), image)
    session.add_point((20, 18, 11))
    assert session.mask[18:25, 14:22, 11].all() and not session.mask[:, :, :11].any()
    session.add_box(((17, 26), (13, 23), (9, 12)))
    assert np.flatnonzero(session.mask.any((0, 1))).tolist() == [9, 10, 11]


def test_an_image_that_is_smaller_than_the_window() -> None:
    image = volume(np.s_[2:7, 1:5, 3:6], shape=(9, 7, 8), grid="axes permuted")
    session = InteractiveSession(model_of(), image)
    session.add_point((4, 3, 4))
    assert dice(session.mask, image.array[0] > 0.5) > 0.8


def test_what_lies_outside_is_refused_by_name() -> None:
    session = InteractiveSession(model_of(), volume(()))
    with pytest.raises(GeometryError, match=r"point \(40, 3, 3\): lies outside of the image, whose voxels go up to"):
        session.add_point((40, 3, 3))
    with pytest.raises(GeometryError, match="point .*nan"):
        session.add_point((float("nan"), 3, 3))
    with pytest.raises(GeometryError, match=r"box .* holds no voxel of the image"):
        session.add_box(((50, 60), (3, 9), (3, 9)))
    with pytest.raises(GeometryError, match="scribble: holds no voxel"):
        session.add_scribble(np.zeros((40, 36, 24), dtype=bool))
    with pytest.raises(GeometryError, match="lasso of .*does not lie inside of the image"):
        session.add_lasso(np.ones((40, 36, 25), dtype=bool))
    with pytest.raises(GeometryError, match="initial mask of .*does not lie inside"):
        session.add_initial_mask(np.ones((4, 4, 4), dtype=bool), origin=(-1, 0, 0))
    assert not session.mask.any() and session.prompts == ()


def test_a_model_without_prompts_names_the_option_of_training() -> None:
    with pytest.raises(ModelError, match="answers to no prompts.*train PREPARED --prompts"):
        InteractiveSession(model_of(prompts=False), volume(()))


@pytest.mark.slow
def test_another_back_end_runs_windows_with_prompts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """OpenVINO's graph is made for image and prompts together; automatic masks need none of it."""
    import torch

    from medseg.device import choose_device
    from medseg.inferers.model import save_model
    from medseg.interactive.object_predictor import load_promptable
    from medseg.networks.registry import build_network

    record = model_of().record
    torch.manual_seed(1)
    network = build_network(1, len(record.outputs), record.plan.architecture)
    save_model(tmp_path / "model", record, network.state_dict())
    image = volume(np.s_[18:25, 14:22, 8:15])
    masks, automatic = {}, {}
    for backend in ("torch", "openvino"):
        # In bf16 the logits of a network of random weights, which lie around 0, differ in their signs.
        model = load_promptable(tmp_path / "model", choose_device("cpu", "fp32"), backend)
        assert model.backend == backend
        session = InteractiveSession(model, image)
        session.add_point((20, 18, 11))
        masks[backend], automatic[backend] = session.mask, session.automatic()
    assert (masks["torch"] == masks["openvino"]).mean() > 0.98
    np.testing.assert_array_equal(automatic["torch"], automatic["openvino"])


def test_every_window_of_a_large_object_has_a_prompt() -> None:
    """Far from the click it is a point in what was found there: in training no mask came without a prompt."""
    model = model_of()
    session = InteractiveSession(model, volume(np.s_[3:60, 10:19, 9:17], shape=(80, 30, 30)))
    session.add_point((8, 14, 12))
    seen = windows_seen(model)
    assert len(seen) > 6 and all(bool(each[1 + INSIDE].any()) for each in seen)
