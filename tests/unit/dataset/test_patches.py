import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.config import load
from medseg.dataset.patches import PatchSampler, cut, mirrored_cut
from medseg.dataset.prepared_arrays import COMPONENTS_PER_LABEL, VOXELS_PER_COMPONENT, _components
from medseg.dataset.store import PreparedDataset
from medseg.errors import SourceError
from medseg.io.nifti.writer import write_nifti
from medseg.labels import IGNORED
from medseg.volume import Geometry
from medseg.workflows.preprocess import preprocess


def sampler(dataset: PreparedDataset, dims: int = 3, **rest: object) -> PatchSampler:
    plan = dataset.plans.plan_2d if dims == 2 else dataset.plans.plan_3d
    assert plan is not None
    plan = plan.model_copy(update={"patch_size": (16, 16, 1 if dims == 2 else 8)})
    chosen = {"batch_size": 3, "foreground_fraction": 1 / 3, "seed": 0, **rest}
    return PatchSampler(dataset.subset(sorted(dataset.cases)), plan, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("dims", [2, 3])
def test_shapes_and_types(prepared: PreparedDataset, dims: int) -> None:
    batch = sampler(prepared, dims).batch(0)
    spatial = (16, 16) if dims == 2 else (16, 16, 8)
    assert batch.image.shape == (3, 1, *spatial)
    assert batch.label.shape == (3, 1, *spatial)
    assert (batch.image.dtype, batch.label.dtype) == (torch.float32, torch.uint8)


def test_a_batch_depends_on_seed_and_step_only(prepared: PreparedDataset) -> None:
    first, again = sampler(prepared), sampler(prepared)
    first.batch(0)
    assert torch.equal(first.batch(5).image, again.batch(5).image)
    assert not torch.equal(first.batch(5).image, first.batch(6).image)
    assert not torch.equal(first.batch(5).image, sampler(prepared, seed=1).batch(5).image)
    prefetched = again.prefetched(4)
    next(prefetched)
    assert torch.equal(next(prefetched).image, first.batch(5).image)
    prefetched.close()


def test_several_readers_give_the_same_batches(prepared: PreparedDataset) -> None:
    several = sampler(prepared)
    several.readers = 3
    batches = several.prefetched(4)
    for step in range(4, 12):
        assert torch.equal(next(batches).image, sampler(prepared).batch(step).image)
    batches.close()


def test_shares_of_a_batch_make_up_the_batch(prepared: PreparedDataset) -> None:
    whole = sampler(prepared).batch(5)
    parts = [next(sampler(prepared).shared(share).prefetched(5)) for share in (slice(0, 1), slice(1, 3))]
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    assert torch.equal(torch.cat([part.label for part in parts]), whole.label)
    assert [part.first for part in parts] == [0, 1]
    assert all(part.case_ids == whole.case_ids for part in parts)


def test_every_case_comes_equally_often(prepared: PreparedDataset) -> None:
    ids = [case for step in range(len(prepared.cases)) for case in sampler(prepared).batch(step).case_ids]
    assert {ids.count(case) for case in prepared.cases} == {3}


def test_the_wanted_part_of_patches_holds_foreground(prepared: PreparedDataset) -> None:
    batches = [sampler(prepared, foreground_fraction=1.0).batch(step) for step in range(10)]
    assert all(bool(label.any()) for batch in batches for label in batch.label)
    # Each label is drawn as often as the other, however small it is.
    centres = [int(label[0, 8, 8, 4]) for batch in batches for label in batch.label]
    assert min(centres.count(1), centres.count(2)) >= 5


def test_image_and_label_are_cut_at_the_same_place(prepared: PreparedDataset) -> None:
    batch = sampler(prepared, foreground_fraction=1.0).batch(0)
    for image, label in zip(batch.image[:, 0], batch.label[:, 0], strict=True):
        assert float(image[label > 0].mean()) > float(image[label == 0].mean()) + 0.5


def test_cut_pads_with_zeros() -> None:
    array = np.arange(1, 25).reshape(1, 2, 3, 4)
    part = cut(array, (-1, 1, 2), (4, 3, 3))
    assert part.shape == (1, 4, 3, 3)
    expected = np.pad(array, ((0, 0), (1, 1), (0, 1), (0, 1)))[:, :, 1:4, 2:5]
    assert np.array_equal(part, expected)


def test_large_batches_do_not_hold_files_open(prepared: PreparedDataset) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert len(sampler(prepared, batch_size=256).batch(0).case_ids) == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_context_beyond_the_image_is_mirrored() -> None:
    image = np.random.default_rng(0).integers(0, 99, (2, 5, 4, 1))
    mirrored = np.pad(image, ((0, 0), (9, 9), (3, 3), (2, 2)), mode="reflect")
    assert (mirrored_cut(image, (-9, -3, -2), (23, 10, 5)) == mirrored).all()
    assert (mirrored_cut(image, (2, -1, 0), (4, 3, 1)) == mirrored[:, 11:15, 2:5, 2:3]).all()


def test_the_margin_surrounds_centres_that_lie_in_the_image(prepared: PreparedDataset) -> None:
    sampled = sampler(prepared, margin=(4, 4, 2))
    assert sampled.centre == (8, 8, 4)
    assert sampled.batch(0).image.shape == (3, 1, 16, 16, 8)
    for shape in ((20, 9, 4), (8, 8, 3)):
        starts = [sampled._start(sampled.case_ids[0], shape, None, np.random.default_rng(i)) for i in range(50)]
        low, high = np.min(starts, axis=0), np.max(starts, axis=0)
        assert (low >= np.minimum(0, np.subtract(shape, (8, 8, 4)))).all()
        assert (high <= np.maximum(0, np.subtract(shape, (8, 8, 4)))).all()


def test_by_component_each_label_and_each_component_comes_equally_often(tmp_path: Path) -> None:
    """Label 2 is in one of four cases only; label 1 is a large and a small component in each."""
    source = tmp_path / "source"
    for number in range(4):
        label_map = np.zeros((24, 24, 16), np.uint8)
        label_map[1:11, 1:21, 1:15] = 1
        label_map[18:20, 18:20, 3:5] = 1
        if number == 0:
            label_map[20:22, 3:5, 10:12] = 2
        image = label_map + np.random.default_rng(number).normal(0, 0.1, label_map.shape)
        for folder, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label_map)):
            write_nifti(source / folder / f"c{number}.nii.gz", array, Geometry(label_map.shape, np.eye(4)))
    names = {"background": 0, "common": 1, "rare": 2}
    (source / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "labels": names}))
    preprocess(source, tmp_path / "prepared", config=load(overrides=["preprocessing.workers=1"]))
    dataset = PreparedDataset(tmp_path / "prepared")
    subject = sampler(dataset, foreground_fraction=1.0, batch_size=1)
    subject.by_component = True
    centres = [subject._foreground_voxel(subject._case(i), subject._label_and_case(i)[0], np.random.default_rng(i))
               for i in range(300)]  # fmt: skip
    found = [(dataset.label_map("c0")[tuple(c)], c[0] > 15) for c in centres if c is not None]
    counts = {kind: found.count(kind) for kind in ((2, True), (1, True), (1, False))}
    assert sum(counts.values()) == 300
    assert 120 < counts[2, True] < 180 and 50 < counts[1, True] < 100 and 50 < counts[1, False] < 100
    assert torch.equal(subject.batch(7).image, subject.batch(7).image)
    (dataset.folder / "cases" / "c0" / "components.npy").unlink()
    with pytest.raises(SourceError, match="foreground_by=components needs it; run 'medseg preprocess' again"):
        dataset.components("c0")


def test_of_many_components_each_keeps_voxels() -> None:
    label_map = np.zeros((60, 60, 60), np.uint8)
    label_map[::4, ::4, ::4] = 1  # 3,375 of one voxel
    label_map[1:40, 1:40, 58:] = 2
    label_map[50:, 50:, 50:] = IGNORED
    rows = _components(label_map, seed=0)
    assert (label_map[tuple(rows[:, 2:].T)] == rows[:, 0]).all()
    assert len(rows[rows[:, 0] == 1]) == COMPONENTS_PER_LABEL
    assert len(rows[rows[:, 0] == 2]) == VOXELS_PER_COMPONENT
    assert len(_components(np.zeros((4, 4, 4), np.uint8), seed=0)) == 0
