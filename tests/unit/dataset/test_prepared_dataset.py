"""A prepared dataset as MONAI and torch take it, and the records of its files."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, RandCropByPosNegLabeld, RandSpatialCropd
from torch.utils.data import Dataset

import medseg.dataset
from medseg.dataset import DatasetRecord, PreparedDataset
from medseg.dataset.prepared_json import read_dataset, read_fingerprint, read_plans
from medseg.errors import SourceError
from medseg.files import write_json
from medseg.fingerprint import Fingerprint
from medseg.plan import Plans
from medseg.records import Record
from medseg.transforms import build_preprocessing


def test_items_are_dictionaries_of_meta_tensors(prepared: PreparedDataset) -> None:
    dataset = PreparedDataset(prepared.folder)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == len(dataset.cases)
    item = dataset[1]
    case_id = dataset.case_ids[1]
    assert set(item) == {"image", "label", "case_id"}
    assert item["case_id"] == case_id
    image, label = item["image"], item["label"]
    assert isinstance(image, MetaTensor)
    assert isinstance(label, MetaTensor)
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
    np.testing.assert_array_equal(image.numpy(), prepared.image(case_id).astype(np.float32))
    np.testing.assert_array_equal(label.numpy()[0], prepared.label_map(case_id))
    for tensor in (image, label):
        np.testing.assert_array_equal(tensor.affine.numpy(), prepared.model_grid(case_id).affine)


def test_monai_s_loader_and_crops_work_on_it(prepared: PreparedDataset) -> None:
    crop = Compose(
        [
            RandSpatialCropd(["image", "label"], roi_size=(12, 12, 12), random_size=False),
            RandCropByPosNegLabeld(["image", "label"], label_key="label", spatial_size=(8, 8, 8), num_samples=2),
        ]
    )
    chosen = sorted(prepared.cases)[:2]
    dataset = PreparedDataset(prepared.folder, chosen, crop)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert tuple(batch["image"].shape) == (4, 1, 8, 8, 8)
    assert batch["case_id"] == [chosen[0]] * 2 + [chosen[1]] * 2


def test_a_loader_with_workers_gives_the_same(prepared: PreparedDataset) -> None:
    dataset = PreparedDataset(prepared.folder, sorted(prepared.cases)[:2])
    alone, in_workers = (next(iter(DataLoader(dataset, batch_size=1, num_workers=n))) for n in (0, 1))
    assert torch.equal(alone["image"].as_tensor(), in_workers["image"].as_tensor())


def test_a_case_that_is_not_there_is_named(prepared: PreparedDataset) -> None:
    with pytest.raises(SourceError, match="has no case 'nobody'"):
        PreparedDataset(prepared.folder, ["nobody"])
    with pytest.raises(SourceError, match="has no case 'nobody'"):
        prepared.subset(["nobody"])


def test_a_subset_is_the_same_dataset_with_other_items(prepared: PreparedDataset) -> None:
    chosen = sorted(prepared.cases)[1:3]
    assert [item["case_id"] for item in prepared.subset(chosen)] == chosen
    assert len(prepared) == len(prepared.cases)


@pytest.mark.parametrize("record", [DatasetRecord, Fingerprint, Plans])
def test_each_file_has_a_schema(record: type[Record]) -> None:
    schema = record.model_json_schema()
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False


def test_each_file_is_written_as_it_was_read(prepared: PreparedDataset) -> None:
    record = read_dataset(prepared.folder)
    for name, content in (
        ("dataset.json", record),
        ("fingerprint.json", read_fingerprint(prepared.folder, record)),
        ("plan.json", read_plans(prepared.folder, record)),
    ):
        again = write_json(prepared.folder / f"again-{name}", content.model_dump(mode="json"))
        assert again.read_bytes() == (prepared.folder / name).read_bytes()
        again.unlink()


def test_all_public_names_are_there() -> None:
    assert all(getattr(medseg.dataset, name) for name in medseg.dataset.__all__)
    assert set(medseg.dataset.__all__) <= set(dir(medseg.dataset))


def test_the_plan_s_compose_makes_of_the_sources_what_is_stored(prepared: PreparedDataset) -> None:
    plan = prepared.plans.plan_3d
    assert plan is not None
    preprocess = build_preprocessing(plan, prepared.labels)
    for stored in PreparedDataset(prepared.folder):
        case_id = stored["case_id"]
        case = preprocess({"image": prepared.image_paths(case_id), "label": prepared.label_path(case_id)})
        assert torch.equal(case["image"].as_tensor().half().float(), stored["image"].as_tensor())
        assert torch.equal(case["label"].as_tensor(), stored["label"].as_tensor())
        np.testing.assert_allclose(case["image"].affine.numpy(), stored["image"].affine.numpy(), atol=1e-9)
