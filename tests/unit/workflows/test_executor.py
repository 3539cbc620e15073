"""The verbs with an executor: what they give and write is what one process gives and writes."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from model_records import record_of

import medseg
from medseg.config import load
from medseg.errors import ConfigError, SourceError
from medseg.evaluation.predictions_json import read_predictions
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.outcome import UnfitWorkerError
from medseg.plan import Plan
from medseg.prediction import case_on_worker
from medseg.prediction.predictions_file import CASE_FILES, write_case_file

CALL = {"device": "cpu", "backend": "torch"}
OF_TIME = ("seconds", "stages", "peak_memory_mb", "forecast_mb")  # differ from call to call


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def model(tiny_plan: Plan, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = build_network(1, 3, tiny_plan.architecture).state_dict()
    save_model(tmp_path / "model", record_of(tiny_plan, {"a": 2, "b": 5}, ("image",)), weights)
    return tmp_path / "model"


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.suffix != ".json"}


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "predictions.json").read_text())
    for case in found["cases"]:
        for key in OF_TIME:
            case.pop(key, None)
    return found


def test_predict(model: Path, blobs: Path, tmp_path: Path, executor: Executor) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    (tmp_path / "source").mkdir()
    for image in (blobs / "images").iterdir():
        (tmp_path / "source" / image.name).write_bytes(image.read_bytes())
    (tmp_path / "source" / "blob_03.nii.gz").write_bytes(b"no image")
    call = {**CALL, "uncertainty": True}
    alone = medseg.predict(model, tmp_path / "source", one, **call)
    together = medseg.predict(model, tmp_path / "source", many, executor=executor, **call)
    assert files(one) == files(many) and len(files(one)) == 10
    assert content(one) == content(many)
    assert alone.problems == together.problems != ()
    assert [each.case_id for each in alone] == [each.case_id for each in together]
    assert not (many / CASE_FILES).exists() and not list(many.glob(".shared*"))


def test_a_killed_driver_loses_nothing(model: Path, blobs: Path, tmp_path: Path, executor: Executor) -> None:
    """Workers wrote masks, and files that account for them; predictions.json was not written any more."""
    masks = tmp_path / "masks"
    medseg.predict(model, blobs / "images", masks, executor=executor, **CALL)
    whole = content(masks)
    written = read_predictions(masks)
    assert written is not None
    for case in written.cases[:4]:
        write_case_file(masks, written, case)
    write_case_file(masks, written.model_copy(update={"weights_sha256": "another"}), written.cases[4])
    (masks / CASE_FILES / "torn.json").write_text('{"cases": [')
    (masks / "predictions.json").unlink()
    again = medseg.predict(model, blobs / "images", masks, executor=executor, **CALL)
    assert again.done_before == tuple(case.case_id for case in written.cases[:4])
    assert content(masks) == whole


class Recording(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(1)
        self.items = list[Any]()

    def submit(self, fn: Callable[..., Any], /, *items: Any, **kwargs: Any) -> Future[Any]:
        self.items.append(items[0])
        return super().submit(fn, *items, **kwargs)


def test_the_largest_come_first(model: Path, tmp_path: Path, write_image: Any) -> None:
    import numpy as np

    for name, n in (("a", 9), ("b", 12), ("c", 10)):
        write_image(tmp_path / "source" / f"{name}.nii.gz", np.ones((n, 9, 9), np.int16))
    with Recording() as executor:
        result = medseg.predict(model, tmp_path / "source", tmp_path / "masks", executor=executor, **CALL)
    assert [item[0].case_id for item in executor.items[1:]] == ["b", "c", "a"]
    assert [each.case_id for each in result] == ["a", "b", "c"]


def test_the_model_is_loaded_once(
    model: Path, blobs: Path, tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load_any = case_on_worker.PredictionRequest.predictor
    monkeypatch.setattr(
        case_on_worker.PredictionRequest,
        "predictor",
        lambda self, *_, **__: loaded.append(self.backend) or load_any(self),
    )
    medseg.predict(model, blobs / "images", tmp_path / "masks", executor=executor, device="cpu")
    assert loaded == ["torch", "auto"]  # of the driver, and of the worker


def test_a_worker_without_the_device_ends_the_call(
    model: Path, blobs: Path, tmp_path: Path, executor: Executor
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SourceError, match="cuda"):
        medseg.predict(model, blobs / "images", tmp_path / "masks", executor=executor, device="cuda")


@pytest.mark.slow
def test_a_case_that_needs_more_memory_is_refused_before_it_begins(
    model: Path, blobs: Path, tmp_path: Path, executor: Executor
) -> None:
    with pytest.raises(SourceError, match=r"--max-memory .* is too little for this case"):
        medseg.predict(model, blobs / "images", tmp_path / "masks", executor=executor, max_memory="1MB", **CALL)


def test_a_module_of_the_users_own_is_not_sent(model: Path, blobs: Path, tmp_path: Path, executor: Executor) -> None:
    with pytest.raises(ConfigError, match="workers build networks by their names"):
        medseg.predict(model, blobs, tmp_path / "masks", executor=executor, network=torch.nn.Identity())


def test_preprocess_evaluate_inspect(blobs: Path, tmp_path: Path, executor: Executor) -> None:
    config = load(overrides=["preprocessing.workers=1"])
    (tmp_path / "one").mkdir()
    medseg.preprocess(blobs, tmp_path / "one" / "prepared", config=config)
    (tmp_path / "many").mkdir()
    medseg.preprocess(blobs, tmp_path / "many" / "prepared", config=config, executor=executor)
    one, many = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "many")
    )
    assert one == many and len(one) > 12
    measured = [
        medseg.evaluate(blobs / "labels", blobs / "labels", tmp_path / name, executor=given, workers=1).as_json()
        for name, given in (("one-m", None), ("many-m", executor))
    ]
    assert measured[0] == measured[1]
    assert (tmp_path / "one-m" / "metrics.csv").read_bytes() == (tmp_path / "many-m" / "metrics.csv").read_bytes()
    looked = [medseg.inspect(blobs, executor=given, workers=1) for given in (None, executor)]
    assert looked[0].as_json() == looked[1].as_json()


def test_unfit_workers_leave_what_is_done(model: Path, blobs: Path, tmp_path: Path) -> None:
    class Failing(Recording):
        def submit(self, fn: Callable[..., Any], /, *items: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *items, **kwargs)
            if len(self.items) == 4:
                future = Future()
                future.set_exception(UnfitWorkerError("/scans: the worker on node7 does not see it"))
            return future

    with Failing() as executor, pytest.raises(SourceError, match="node7"):
        medseg.predict(model, blobs / "images", tmp_path / "masks", executor=executor, **CALL)
    done = read_predictions(tmp_path / "masks")
    assert done is not None
    left = medseg.predict(model, blobs / "images", tmp_path / "masks", **CALL)
    assert len(left.done_before) + len(left.predictions) == 6


def test_trainings_that_are_compared(prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each training is a task; what fails stands in the table."""
    import medseg.workflows.compare as workflow
    from medseg.training.trials import Trial

    tried = []

    def train_trial(trial: Trial, **_: Any) -> str:
        tried.append(f"{trial.fold} {trial.seed}")
        return "there is no GPU"

    monkeypatch.setattr(workflow, "train_trial", train_trial)
    with Recording() as executor:
        found = medseg.compare(
            prepared.folder, tmp_path / "compared", ["unet"], folds=(0, 1), seeds=(0, 1), executor=executor
        )
    assert sorted(tried) == ["0 0", "0 1", "1 0", "1 1"] and len(executor.items) == 4
    assert all("there is no GPU" in problem for problem in found.networks[0].problems)
    assert len(found.networks[0].problems) == 4


def test_what_workers_cannot_train_is_refused(prepared: Any, tmp_path: Path, executor: Executor) -> None:
    with pytest.raises(ConfigError, match="set it to all"):
        medseg.train(prepared.folder, tmp_path / "run", executor=executor)
    with pytest.raises(ConfigError, match="parts that have a name"):
        config = load(overrides=["training.fold=all"])
        medseg.train(prepared.folder, tmp_path / "run", config=config, executor=executor, loss=torch.nn.Identity())
