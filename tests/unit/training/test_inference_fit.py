"""Windows and int8 that predict in less time, chosen at the end of training by what they cost."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sliding import CPU

from medseg.architecture import Architecture
from medseg.config import Config, InferenceConfig, load
from medseg.dataset.splits import Split
from medseg.dataset.store import PreparedDataset
from medseg.errors import ModelError
from medseg.inferers.backends import is_quantised, with_backend
from medseg.inferers.model import load_model, save_model
from medseg.inferers.model_record import InferenceFit, ModelRecord, read_model_record, write_model_record
from medseg.inferers.quantised import FOLDER
from medseg.networks.registry import build_network
from medseg.networks.wrapped import TriedNetwork
from medseg.plan import Plan
from medseg.training import inference_fit
from medseg.training.inference_fit import Tried, faster_windows, fit_inference, seen_voxels, with_fit_of
from medseg.training.run import Run
from medseg.training.time_shares import TimeShares

INFINITE = float("inf")


def network(plan: Plan) -> torch.nn.Module:
    return build_network(1, 3, plan.architecture).eval()


def test_an_image_a_little_larger_than_the_patch_is_one_window(tiny_plan: Plan) -> None:
    """Eight windows of 8×8×8 at an overlap of a half; one of 10×10×10."""
    shapes = [(10, 9, 10), (9, 10, 9)]
    best, *others = faster_windows(network(tiny_plan), tiny_plan, InferenceConfig(), shapes)
    assert best.window == (10, 10, 10)
    assert best.overlap == 0.5  # of equal ones that which serves larger images better
    assert seen_voxels(network(tiny_plan), tiny_plan, best, shapes) == 10 * 9 * 10 + 9 * 10 * 9
    assert others == []  # windows of 8×8×8 are as many with any overlap


def test_large_images_have_fewer_windows_that_overlap_by_less(tiny_plan: Plan) -> None:
    shapes, module = [(64, 60, 57)], network(tiny_plan)
    configs = faster_windows(module, tiny_plan, InferenceConfig(), shapes)
    works = [seen_voxels(module, tiny_plan, each, shapes) for each in configs]
    assert works == sorted(works) and works[0] >= 64 * 60 * 57
    own = seen_voxels(module, tiny_plan, InferenceConfig(), shapes)
    assert own == 15 * 14 * 14 * 8**3  # steps of four voxels
    assert works[-1] <= inference_fit.WORTH * own
    assert {each.overlap for each in configs} == {0.25, 0.5}
    assert None in {each.window for each in configs}  # with windows of the patch, too
    assert all(each.window is None or max(each.window) <= 4 * 8 for each in configs)


def test_windows_do_not_grow_beyond_what_memory_is_worth(tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_fit, "MOST_VOXELS", 8 * 8 * 12)
    configs = faster_windows(network(tiny_plan), tiny_plan, InferenceConfig(), [(64, 64, 64)])
    assert {torch.Size(each.window).numel() for each in configs if each.window} == {8 * 8 * 12}


def test_not_every_network_takes_other_windows(tiny_plan: Plan) -> None:
    shapes = [(64, 60, 57)]
    assert {
        each.window for each in faster_windows(network(tiny_plan), tiny_plan, InferenceConfig(), shapes, False)
    } == {None}
    of_one_shape = TriedNetwork(torch.nn.Conv3d(1, 3, 1), (1, 1, 1), 1, shape=(8, 8, 8))
    assert {each.window for each in faster_windows(of_one_shape, tiny_plan, InferenceConfig(), shapes)} == {None}
    unknown = torch.nn.Conv3d(1, 3, 1)
    assert {each.window for each in faster_windows(unknown, tiny_plan, InferenceConfig(), shapes)} == {None}


def test_slices_of_2d_networks_are_seen_whole(tiny_plan: Plan) -> None:
    flat = Architecture(features=(4, 8), strides=((1, 1), (2, 2)), kernel_sizes=((3, 3),) * 2)
    plan = tiny_plan.model_copy(update={"dims": 2, "slice_axis": 1, "patch_size": (8, 1, 8), "architecture": flat})
    best = faster_windows(network(plan), plan, InferenceConfig(), [(18, 100, 20)])[0]
    assert best.window == (18, 20)


@pytest.fixture
def run(prepared: PreparedDataset, tiny_plan: Plan, tmp_path: Path) -> Run:
    """A run with a model of random weights, which holds back half of the cases."""
    plan = tiny_plan.model_copy(update={"grid": prepared.plans.plan_2d.grid})
    record = ModelRecord(
        medseg="0", plan=plan, labels=prepared.labels, channels=prepared.record.channels, inference=InferenceConfig(),
        provenance={}, metrics={},
    )  # fmt: skip
    torch.manual_seed(0)
    save_model(tmp_path / "run" / "model", record, network(plan).state_dict())
    (tmp_path / "run" / "run.json").touch()
    cases = prepared.case_ids
    return Run(tmp_path / "run", Config(), plan, Split(cases[:3], cases[3:]), prepared)


def shares(run: Run) -> TimeShares:
    return TimeShares(INFINITE, 0.0, run.split.validation, run.split.validation, INFINITE)


def tried(monkeypatch: pytest.MonkeyPatch, *results: tuple[float, float]) -> list[InferenceConfig]:
    """Lets trials have these Dice and seconds, one after the other; returns what is tried."""
    left, asked = list(results), []

    def one(model: object, module: object, config: InferenceConfig, held_back: object) -> Tried:
        asked.append(config)
        return Tried(config, *left.pop(0))

    monkeypatch.setattr(inference_fit, "_tried", one)
    return asked


def test_the_fastest_windows_that_cost_no_dice_are_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, (0.9, 10.0), (0.8979, 2.0), (0.8981, 4.0), *[(0.9, 5.0)] * 2)
    fit_inference(run, shares(run), CPU)
    record = read_model_record(run.folder / "model")
    assert asked[0] == InferenceConfig() and len(asked) <= 1 + inference_fit.MOST_TRIALS
    assert record.inference == asked[2]
    assert record.inference_fit == InferenceFit(cases=3, dice_before=0.9, dice=0.8981, seconds_before=10, seconds=4)


def test_what_is_better_by_more_is_taken_though_it_is_slower(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger windows show more of the image: a tumour of the thigh rose from .37 to .57."""
    asked = tried(monkeypatch, (0.37, 10.0), (0.48, 2.0), (0.57, 3.0), *[(0.57, 4.0)] * 2)
    fit_inference(run, shares(run), CPU)
    assert read_model_record(run.folder / "model").inference == asked[2]


def test_what_is_faster_by_the_number_of_voxels_has_to_be_faster(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, (0.9, 10.0), (0.95, 9.5), (0.9, 8.9), *[(0.9, 9.5)] * 2)
    fit_inference(run, shares(run), CPU)
    assert read_model_record(run.folder / "model").inference == asked[2]


def test_nothing_changes_where_everything_costs_dice(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tried(monkeypatch, (0.9, 10.0), *[(0.89, 1.0)] * inference_fit.MOST_TRIALS)
    fit_inference(run, shares(run), CPU)
    record = read_model_record(run.folder / "model")
    assert record.inference == InferenceConfig(overlap=0.5)
    assert record.inference_fit is not None and record.inference_fit.dice == 0.9
    assert 2 <= len(asked) <= 1 + inference_fit.MOST_TRIALS
    assert "stay as they are" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("setting", ["inference.overlap=0.5", "inference.window=[8,8,8]"])
def test_what_the_user_gave_stays(run: Run, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    asked = tried(monkeypatch, (0.9, 10.0), *[(0.9, 1.0)] * 4)
    fit_inference(replace(run, config=load(overrides=[setting])), shares(run), CPU)
    assert len(asked) == 1


def test_there_is_no_trial_for_which_there_is_no_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, (0.9, 10.0), (0.9, 1.0))
    fit_inference(run, replace(shares(run), comparing=0.0), CPU)
    assert len(asked) == 1
    fit_inference(run, replace(shares(run), compared=()), CPU)
    assert len(asked) == 1


def test_cases_are_really_predicted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_fit, "LARGEST_LOSS", 1.0)
    fit_inference(run, shares(run), CPU)
    fit = read_model_record(run.folder / "model").inference_fit
    assert fit is not None and fit.cases == 3
    assert 0 < fit.seconds < fit.seconds_before
    assert 0 <= fit.dice <= 1 and 0 <= fit.dice_before <= 1


def test_all_folds_have_the_windows_of_the_first(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    second = replace(run, folder=tmp_path / "second")
    assert with_fit_of(run.folder, second) is second  # that chose nothing
    tried(monkeypatch, (0.9, 10.0), *[(0.9, 1.0)] * 4)
    fit_inference(run, shares(run), CPU)
    chosen = read_model_record(run.folder / "model").inference
    assert with_fit_of(run.folder, run) is run
    assert with_fit_of(run.folder, second).config.inference == chosen


def test_a_damaged_window_is_no_window(run: Run) -> None:
    record = read_model_record(run.folder / "model")
    for window in ((8, 8), (2**20, 2**20, 2**20)):
        changed = record.model_copy(update={"inference": InferenceConfig(window=window)})
        write_model_record(run.folder / "model", changed)
        with pytest.raises(ModelError, match="windows of"):
            read_model_record(run.folder / "model")


@pytest.mark.slow
def test_a_slow_network_is_quantised_where_int8_gains(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed (medseg[int8])")
    seconds = {"int8": 2.0}
    monkeypatch.setattr(inference_fit, "SLOW_WINDOW", 0.0)
    monkeypatch.setattr(inference_fit, "LARGEST_LOSS", 1.0)
    monkeypatch.setattr(inference_fit, "seconds_of_window", lambda model: seconds.get(model.backend, 1.0))
    fit_inference(run, shares(run), CPU)
    fit = read_model_record(run.folder / "model").inference_fit
    assert fit is not None and not fit.int8 and not (run.folder / "model" / FOLDER).exists()
    assert "no faster on this processor" in " ".join(capsys.readouterr().err.split())
    seconds["int8"] = 0.5
    fit_inference(run, shares(run), CPU)
    record = read_model_record(run.folder / "model")
    assert record.inference_fit is not None and record.inference_fit.int8
    assert record.inference.window is not None  # the graph takes these
    assert is_quantised(load_model(run.folder, CPU))
    assert with_backend(load_model(run.folder, CPU), "int8").backend == "int8"
