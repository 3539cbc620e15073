"""Models of several members, with random weights: what they give is compared with their members, asked one by one."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import medseg
from medseg.config import InferenceConfig
from medseg.errors import ConfigError, LabelError, MedsegError, ModelError, OutputError
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model, save_model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.recipe import read_recipe
from medseg.interop.recipe_file import import_recipe
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import LearntRegion, Normalization, Plan
from medseg.transforms.prepared import prepare

SHAPE = (26, 22, 14)


@pytest.fixture
def save(tmp_path: Path, tiny_plan: Plan) -> Callable[..., Path]:
    """Saves a model with random weights, and returns its folder."""

    def saved(name: str, labels: Sequence[str], seed: int = 0, channels: Sequence[str] = ("CT",), **of_plan) -> Path:
        grid = tiny_plan.grid.model_copy(
            update={
                "spacing": of_plan.pop("spacing", (1.0, 1.0, 1.0)),
                "normalization": (Normalization(kind="zscore"), *[Normalization(kind="none")] * (len(channels) - 1)),
            }
        )
        plan = tiny_plan.model_copy(update={"grid": grid, **of_plan})
        record = ModelRecord(
            medseg="0", plan=plan, labels=Labels.from_names({label: i for i, label in enumerate(labels, 1)}),
            channels=tuple(channels), inference=InferenceConfig(), provenance={}, metrics={},
        )  # fmt: skip
        torch.manual_seed(seed)
        network = build_network(len(channels), len(record.outputs), plan.architecture)
        weights = network.state_dict()
        logits = network.eval()(torch.randn(4, len(channels), 8, 8, 8))
        weights[last_bias(weights)] -= logits.mean((0, 2, 3, 4))  # so that it finds all of its labels
        save_model(tmp_path / name, record, weights)
        return tmp_path / name

    return saved


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A scan of 2×2×4 mm, its axes flipped and permuted."""
    affine = np.array([[0, -2.0, 0, 5], [2, 0, 0, -7], [0, 0, -4, 30], [0, 0, 0, 1]])
    values = np.random.default_rng(3).normal(100, 30, SHAPE)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), path)
    return path


def last_bias(weights: dict[str, torch.Tensor]) -> str:
    return [name for name in weights if name.endswith("bias")][-1]


def make_rare(model: Path, label: int, image: Path) -> None:
    """Changes the last bias of a model, so that it finds a label in a few voxels of its grid only."""
    loaded = load_model(model, "cpu")
    seen = prepare(medseg.read_volume(image), None, loaded.record.plan.grid).image
    logits = predict_logits(loaded.network, seen, loaded.record.plan, loaded.record.inference, loaded.device)
    others = torch.cat([logits[:label], logits[label + 1 :]]).amax(0)
    surest = (logits[label] - others).flatten().sort(descending=True).values
    weights = loaded.network.state_dict()
    weights[last_bias(weights)][label] -= (surest[1] + surest[2]) / 2
    save_model(model, loaded.record, weights)


def recipe(folder: Path, text: str, name: str = "whole") -> Path:
    (folder / f"{name}.yaml").write_text(text)
    return import_recipe(folder / f"{name}.yaml", folder / name)


def found_by(model: Path | Sequence[Path], image: Path, **options) -> np.ndarray:
    (prediction,) = medseg.predict(model, image, device="cpu", **options).predictions
    return prediction.label_map.label_map


def test_a_later_member_writes_over_an_earlier_one(save: Callable[..., Path], image: Path) -> None:
    organs, vessels = (
        save("organs", ["liver", "spleen", "other"], 1),
        save("vessels", ["aorta", "cava"], 2, spacing=(2, 2, 2)),
    )
    whole = recipe(
        image.parent,
        """
        labels: {liver: 10, spleen: 20, vein: 300}
        members:
          first: {model: organs, gives: [liver, spleen]}
          second: {model: vessels, gives: {cava: vein}}
        """,
    )
    below, above = found_by(organs, image), found_by(vessels, image)
    expected = np.select([above == 2, below == 1, below == 2], [300, 10, 20])
    assert len(np.unique(expected)) == 4
    assert np.array_equal(found_by(whole, image), expected)


def test_a_member_sees_the_box_around_what_another_found(save: Callable[..., Path], image: Path) -> None:
    coarse, fine = save("coarse", ["a", "b"], 1, spacing=(2, 2, 4)), save("fine", ["c"], 2)
    make_rare(coarse, 2, image)
    whole = recipe(
        image.parent,
        """
        members:
          coarse: {model: coarse, gives: []}
          fine: {model: fine, crop: {member: coarse, labels: [b], margin_mm: 5}}
        """,
    )
    places = np.argwhere(found_by(coarse, image) == 2)
    margin = np.array([2, 2, 1])  # voxels in 5 mm, rounded down
    first, stop = np.maximum(places.min(0) - margin, 0), np.minimum(places.max(0) + 1 + margin, SHAPE)
    assert (stop - first < SHAPE).any(), "the box is all of it, and nothing is tested"
    scan = nibabel.load(image)
    box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
    part = image.with_name("part.nii.gz")
    nibabel.save(scan.slicer[box], part)
    expected = np.zeros(SHAPE)
    expected[box] = found_by(fine, part)
    assert expected.any()
    assert np.array_equal(found_by(whole, image), expected)


def test_a_member_looks_nowhere_where_nothing_was_found(save: Callable[..., Path], image: Path) -> None:
    coarse = save("coarse", ["a", "b"], 1)
    loaded = load_model(coarse, "cpu")
    weights = loaded.network.state_dict()
    weights[last_bias(weights)][0] = 1e4  # background everywhere
    save_model(coarse, loaded.record, weights)
    save("fine", ["c"], 2)
    whole = recipe(
        image.parent,
        """
        members:
          coarse: {model: coarse, gives: [a]}
          fine: {model: fine, crop: {member: coarse, labels: [b]}}
        """,
    )
    (prediction,) = medseg.predict(whole, image, device="cpu").predictions
    assert not prediction.label_map.label_map.any()
    assert "fine looked nowhere, since coarse found nothing of b" in prediction.warnings


def test_a_cascade_sees_what_the_stage_before_found(save: Callable[..., Path], image: Path) -> None:
    low = save("low", ["a", "b"], 1, spacing=(4, 4, 4))
    high = save("high", ["a", "b"], 2, channels=("CT", "previous a", "previous b"), spacing=(2, 2, 4))
    whole = recipe(
        image.parent,
        """
        members:
          low: {model: low, gives: {}}
          high: {model: high, previous: {member: low}}
        """,
    )
    scan, before = nibabel.load(image), found_by(low, image)
    together = image.with_name("together.nii.gz")
    channels = np.stack([np.asarray(scan.dataobj), before == 1, before == 2], -1)
    nibabel.save(nibabel.Nifti1Image(channels.astype(np.int16), scan.affine), together)
    found = found_by(whole, image)
    assert len(np.unique(found)) == 3
    assert np.array_equal(found, found_by(high, together))


def test_what_lies_elsewhere_is_removed(save: Callable[..., Path], image: Path) -> None:
    coarse, fine = save("coarse", ["a", "b"], 1, spacing=(2, 2, 4)), save("fine", ["c"], 2)
    make_rare(coarse, 2, image)
    whole = recipe(
        image.parent,
        """
        members:
          coarse: {model: coarse, gives: {}}
          fine: {model: fine, within: {member: coarse, labels: [b], margin_mm: 2.7}}
        """,
    )
    from scipy.ndimage import binary_dilation

    near = binary_dilation(found_by(coarse, image) == 2, iterations=1)  # 2.7 mm of edges of 2.67 mm on average
    all_of_it = found_by(fine, image)
    expected = np.where(near, all_of_it, 0)
    assert 0 < expected.sum() < all_of_it.sum()
    assert np.array_equal(found_by(whole, image), expected)


@pytest.mark.parametrize(
    "as_regions",
    [pytest.param(False, id="labels"), pytest.param(True, id="regions", marks=pytest.mark.slow)],
)
def test_models_of_different_plans_are_averaged(save: Callable[..., Path], image: Path, as_regions: bool) -> None:
    regions = (LearntRegion(name="a", values=(1,), value=1), LearntRegion(name="b", values=(2,), value=2))
    of_plan = {"regions": regions} if as_regions else {}
    models = [save("one", ["a", "b"], 1, **of_plan), save("other", ["a", "b"], 5, spacing=(2, 2, 3), **of_plan)]
    maps = []
    for model in models:
        folder = image.parent / f"maps-{model.name}"
        medseg.predict(model, image, folder, device="cpu", save_probabilities=True)
        files = [folder / "probabilities" / "scan" / f"{name}.nii.gz" for name in "ab"]
        maps.append([np.asarray(nibabel.load(file).dataobj) for file in files])
    a, b = np.mean(maps, 0)
    if as_regions:
        expected, margin = np.select([b > 0.5, a > 0.5], [2, 1]), np.minimum(abs(a - 0.5), abs(b - 0.5))
    else:
        shares = np.stack([1 - a - b, a, b])
        expected, margin = shares.argmax(0), np.diff(np.sort(shares, 0)[-2:], axis=0)[0]
    sure = margin > 0.02  # what was saved are 255 steps
    found = found_by(models, image)
    assert sure.mean() > 0.5
    assert len(np.unique(found[sure])) == 3
    assert np.array_equal(found[sure], expected[sure])


@pytest.mark.slow
def test_models_of_one_plan_are_averaged_by_their_logits(save: Callable[..., Path], image: Path) -> None:
    models = [save("one", ["a", "b"], 1), save("other", ["a", "b"], 5)]
    whole = recipe(image.parent, "members: {both: {model: [one, other]}}")
    apart = found_by(models, image) != found_by(whole, image)  # where means of logits and of probabilities differ
    assert 0 < apart.mean() < 0.2


@pytest.mark.slow
def test_only_some_labels(save: Callable[..., Path], image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save("organs", ["liver", "spleen"], 1)
    save("vessels", ["aorta", "cava"], 2)
    whole = recipe(image.parent, "members: {organs: {model: organs}, vessels: {model: vessels}}")
    everything = found_by(whole, image)
    (whole / "organs" / "weights.safetensors").unlink()  # it isn't even loaded
    capsys.readouterr()
    found = found_by(whole, image, labels=["cava"])
    assert "vessels" in capsys.readouterr().err
    assert np.array_equal(found, np.where(everything == 4, 4, 0))
    single = found_by(image.parent / "vessels", image, labels=["aorta"])
    assert np.array_equal(single, np.where(found_by(image.parent / "vessels", image) == 1, 1, 0))
    with pytest.raises(LabelError, match="--labels: 'kava' is no label; did you mean 'cava'"):
        found_by(whole, image, labels=["kava"])
    with pytest.raises(ConfigError, match="probabilities cannot be had"):
        found_by(whole, image, labels=["cava"], save_probabilities=True)


@pytest.mark.slow
def test_other_labels_of_a_later_member_lie_on_top_of_those_asked_for(save: Callable[..., Path], image: Path) -> None:
    save("organs", ["liver", "spleen"], 1)
    save("vessels", ["aorta", "cava"], 2)
    save("rough", ["liver", "spleen", "aorta", "cava"], 3)
    whole = recipe(
        image.parent,
        """
        members: {organs: {model: organs}, vessels: {model: vessels}, rough: {model: rough, gives: []}}
        fast: rough
        """,
    )
    everything = found_by(whole, image)
    some = found_by(whole, image, labels=["liver", "cava"])
    assert (everything == 3).any()
    assert np.array_equal(some, np.where(np.isin(everything, [1, 4]), everything, 0))
    fast = found_by(whole, image, fast=True)
    assert len(np.unique(fast)) == 5
    assert np.array_equal(fast, found_by(image.parent / "rough", image))
    no_fast = recipe(image.parent, "members: {organs: {model: organs}}", "no_fast")
    with pytest.raises(ConfigError, match=r"--fast: .*no_fast has no fast member"):
        found_by(no_fast, image, fast=True)


@pytest.mark.slow
def test_labels_are_looked_for_around_the_rough_ones(save: Callable[..., Path], image: Path) -> None:
    make_rare(save("rough", ["a", "b"], 1, spacing=(2, 2, 4)), 2, image)
    save("fine", ["a", "b"], 2)
    text = """
        members:
          rough: {model: rough, gives: {}}
          fine: {model: fine, %s}
        %s
        """
    of_b = recipe(image.parent, text % ("gives: [b], crop: {member: rough, labels: [b], margin_mm: 6}", ""), "of_b")
    whole = recipe(image.parent, text % ("gives: [a, b]", "rough: {member: rough, margin_mm: 6}"))
    assert np.array_equal(found_by(whole, image), found_by(image.parent / "fine", image))
    expected = found_by(of_b, image)
    assert expected.any()
    assert np.array_equal(found_by(whole, image, labels=["b"]) > 0, expected > 0)


@pytest.mark.slow
def test_it_is_a_model_like_any_other(save: Callable[..., Path], image: Path, tmp_path: Path) -> None:
    """It is packed, predicts within a limit of memory into every format, and goes on after a call that was killed."""
    save("organs", ["liver", "spleen"], 1)
    save("vessels", ["aorta"], 2)
    whole = recipe(image.parent, "members: {organs: {model: organs}, vessels: {model: vessels}}")
    packed = medseg.package(whole, tmp_path / "whole.zip")
    result = medseg.predict(
        packed, image, tmp_path / "masks", device="cpu", max_memory="8GB", formats=["nifti", "seg-nrrd", "stl"]
    )
    assert not result.problems
    assert np.array_equal(result.predictions[0].label_map.label_map, found_by(whole, image))
    assert result.record["labels"]["items"][0]["name"] == "liver"
    assert result.predictions[0].windows > 0
    assert medseg.predict(packed, image, tmp_path / "masks", device="cpu").done_before == ("scan",)
    measured = medseg.evaluate(tmp_path / "masks", tmp_path / "masks", metrics=["dice"])
    assert {record.label for record in measured.records} >= {"liver", "spleen", "aorta"}
    with pytest.raises(ModelError, match="is a model of several members; give one of them.*organs, vessels"):
        medseg.package(whole, tmp_path / "other", format="onnx")


@pytest.mark.slow
def test_a_dicom_study_gets_masks_on_its_slices(
    save: Callable[..., Path], write_slices: Callable[..., list[Path]], tmp_path: Path
) -> None:
    save("coarse", ["a", "b"], 1, spacing=(4, 4, 4))
    save("fine", ["liver"], 2)
    write_slices(tmp_path / "study", np.random.default_rng(0).integers(0, 900, (9, 24, 20), dtype=np.int16))
    whole = recipe(
        tmp_path,
        "members: {coarse: {model: coarse, gives: {}}, fine: {model: fine, crop: {member: coarse, labels: [a]}}}",
    )
    result = medseg.predict(whole, tmp_path / "study", tmp_path / "masks", device="cpu", formats=["dicom-seg", "nifti"])
    assert [mask.format.name for mask in result.predictions[0].masks] == ["dicom-seg", "nifti"]
    assert not result.problems


WRONG = {
    "members: {a: {model: organs, crop: {member: b}}}": r"member 'a' asks for 'b', which is no member before it",
    "members: {a: {model: organs, gives: [aorta]}}": r"names 'aorta', which is no label of 'a'",
    "members: {a: {model: organs, gives: []}}": "no member gives anything",
    "labels: {x: 1}\nmembers: {a: {model: organs}}": "gives 'liver', which is no label of the result",
    "members: {a: {model: organs}, b: {model: vessels, previous: {member: a}}}": "has 1 channels .*would get 3",
    "members: {a: {model: [organs, vessels]}}": "its models have other labels",
    "members: {../a: {model: organs}}": "members",
    "members: {a: {model: nothing}}": "is no model",
    "members: {a: {model: organs, crops: {}}}": "'members.a.crops' is not known",
    "members: {}": "members",
    "members: {a: {model: organs}, b: {model: vessels, gives: []}}\nfast: b": "which is fast, knows no 'liver'",
    "members: {a: {model: organs}}\nfast: b": "'b', which is fast, is no member",
    "members: {a: {model: whole.yaml}}": "is no model",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_recipe_that_cannot_be_is_refused(save: Callable[..., Path], tmp_path: Path, text: str) -> None:
    save("organs", ["liver", "spleen"])
    save("vessels", ["aorta"])
    with pytest.raises(MedsegError, match=WRONG[text]):
        recipe(tmp_path, text)
    assert not (tmp_path / "whole").exists()


def test_a_damaged_recipe_is_refused(save: Callable[..., Path], image: Path) -> None:
    save("organs", ["liver", "spleen"])
    whole = recipe(image.parent, "members: {organs: {model: organs}}")
    with pytest.raises(OutputError, match="cannot be written"):
        recipe(image.parent, "members: {organs: {model: organs}}")
    file = whole / "recipe.json"
    content = json.loads(file.read_text())
    for change, reason in (
        ({"format_version": 7}, "format version 7"),
        ({"members": [{**content["members"][0], "models": ["../organs"]}]}, "should stay inside of its folder"),
        ({"members": [{**content["members"][0], "models": ["gone"]}]}, "is no model"),
        ({"members": content["members"] * 2}, "two members have the name 'organs'"),
        ({"channels": ["CT", "PET"]}, r"has 1 channels \(CT\), and would get 2"),
    ):
        file.write_text(json.dumps(content | change))
        with pytest.raises(ModelError, match=reason):
            found_by(whole, image)
    file.write_text("{")
    with pytest.raises(ModelError, match=r"recipe.json: .*damaged or not JSON"):
        read_recipe(whole)
