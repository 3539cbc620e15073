"""Which weights of a run answer best to clicks, and what of that is noted."""

import shutil
from pathlib import Path

import pytest
from model_records import record_of

from medseg.architecture import PromptChannels
from medseg.config import Config
from medseg.dataset.splits import Split
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import SourceError
from medseg.evaluation.clicks_json import MODEL, ClickedObject, Scores
from medseg.inferers.model import Model, save_model, weights_fingerprint
from medseg.inferers.model_record import read_model_record
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.training import click_comparison
from medseg.training.click_comparison import choose_by_clicks
from medseg.training.run import Run
from medseg.training.time_shares import CLICKING_SHARE, TimeShares

FLAT, STEEP = {0: 0.8, 1: 0.81, 3: 0.81, 5: 0.81}, {0: 0.79, 1: 0.85, 3: 0.88, 5: 0.9}


@pytest.fixture
def run(prepared: PreparedDataset, tmp_path: Path) -> Run:
    """A run whose best and last weights are random and not the same."""
    plan = prepared.plans.plan_3d
    assert plan is not None
    prompts = PromptChannels(point_radius_mm=3, scribble_radius_mm=1)
    architecture = plan.architecture.model_copy(update={"prompts": prompts, "features": (2, 4, 4)})
    strides, kernels = (each[:3] for each in (architecture.strides, architecture.kernel_sizes))
    architecture = architecture.model_copy(update={"strides": strides, "kernel_sizes": kernels})
    plan = plan.model_copy(update={"architecture": architecture})
    for name in ("model", "model-last"):
        network = build_network(1, len(plan.outputs(prepared.labels)), architecture)
        save_model(tmp_path / name, record_of(plan, prepared.labels), network.state_dict())
    return Run(tmp_path, Config(), plan, Split(prepared.case_ids[:1], prepared.case_ids[1:]), prepared)


def shares(run: Run) -> TimeShares:
    return TimeShares(100.0, 1.0, run.split.validation)


def answering(monkeypatch: pytest.MonkeyPatch, dice: dict[str, dict[int, float]], automatic: float = 0.0) -> list[str]:
    """Lets models answer as good as it says here, by the name of their folder; returns what was clicked."""
    clicked = []

    def click_case(case, model: Model, _labels, structures, protocol):  # type: ignore[no-untyped-def]
        (structure,) = structures
        clicked.append(f"{model.folder.name} {case.case_id} {structure}")
        own = ClickedObject(
            case_id=case.case_id, structure=structure, start=protocol.start, reference_ml=1, clicks=(),
            seconds=(0.5,), methods={MODEL: Scores(dice=dice[model.folder.name])},
        )  # fmt: skip
        return [own, own]

    def validate(predictor, *_):  # type: ignore[no-untyped-def]
        is_last = torch_equal(predictor.network.state_dict(), "model-last")
        return type("Result", (), {"mean_dice": 0.8 + (automatic if is_last else 0.0)})

    def torch_equal(state, name: str) -> bool:  # type: ignore[no-untyped-def]
        return state is not None and validated.pop(0) == name

    validated = ["model", "model-last"]
    monkeypatch.setattr(click_comparison, "click_case", click_case)
    monkeypatch.setattr(click_comparison, "validate", validate)
    return clicked


def test_the_last_weights_are_kept_where_they_answer_better(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    last = weights_fingerprint(run.folder / "model-last")
    clicked = answering(monkeypatch, {"model": FLAT, "model-last": STEEP}, automatic=-0.004)
    choose_by_clicks(run, shares(run), choose_device("cpu"), 1e6)
    assert weights_fingerprint(run.folder / "model") == last
    comparison = read_model_record(run.folder / "model").clicks
    assert comparison is not None and comparison.weights == "last" and comparison.start == "automatic"
    assert comparison.dice == pytest.approx(STEEP) and comparison.dice_of_others == pytest.approx(FLAT)
    assert comparison.seconds_per_answer == 0.5
    assert {line.split()[1] for line in clicked} == set(run.split.validation)  # and no case that was trained on
    assert len({line.split(maxsplit=2)[2] for line in clicked}) > 1  # structures in turn


@pytest.mark.parametrize(
    ("of_last", "automatic"), [(STEEP, -0.006), (FLAT | {5: 0.814}, 0.0)], ids=["segments worse", "hardly better"]
)
def test_the_best_weights_stay_otherwise(
    run: Run, monkeypatch: pytest.MonkeyPatch, of_last: dict[int, float], automatic: float
) -> None:
    best = weights_fingerprint(run.folder / "model")
    answering(monkeypatch, {"model": FLAT, "model-last": of_last}, automatic)
    choose_by_clicks(run, shares(run), choose_device("cpu"), 1e6)
    assert weights_fingerprint(run.folder / "model") == best
    comparison = read_model_record(run.folder / "model").clicks
    assert comparison is not None and comparison.weights == "best"
    assert comparison.dice == pytest.approx(FLAT) and comparison.dice_of_others == pytest.approx(of_last)


def test_it_ends_after_one_object_where_there_is_no_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run.folder / "model-last")
    shutil.copytree(run.folder / "model", run.folder / "model-last")  # one model only
    clicked = answering(monkeypatch, {"model": FLAT})
    choose_by_clicks(run, shares(run), choose_device("cpu"), 0.0)
    assert len(clicked) == 1
    comparison = read_model_record(run.folder / "model").clicks
    assert comparison is not None and comparison.dice_of_others is None


def test_cases_that_cannot_be_read_are_named_and_stop_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def click_case(*_: object) -> list[ClickedObject]:
        raise SourceError("scan.nii.gz: is damaged")

    monkeypatch.setattr(click_comparison, "click_case", click_case)
    choose_by_clicks(run, shares(run), choose_device("cpu"), 1e6)
    assert read_model_record(run.folder / "model").clicks is None


def test_networks_without_prompts_are_left_alone(run: Run, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    clicked = answering(monkeypatch, {})
    plain = Run(run.folder, run.config, tiny_plan, run.split, run.dataset)
    choose_by_clicks(plain, shares(run), choose_device("cpu"), 1e6)
    assert clicked == [] and read_model_record(run.folder / "model").clicks is None


def test_time_is_left_for_it() -> None:
    with_clicks, without = (TimeShares.of(1000, {"a": 1.0}, clicking=each) for each in (CLICKING_SHARE, 0.0))
    assert without.training - with_clicks.training == pytest.approx(30)
    assert TimeShares.of(None, {"a": 1.0}, clicking=CLICKING_SHARE).training == float("inf")
