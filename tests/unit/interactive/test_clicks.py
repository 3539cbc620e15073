"""A simulated user, what segments from clicks without a network, and what is measured of both."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from promptable import INSIDE, channel, model_of

from medseg.errors import ConfigError, SourceError
from medseg.evaluation.clicks_json import ClickedObject, Scores, read_clicks, summarise_clicks
from medseg.interactive.classical import graph_cut_mask, random_walker_mask
from medseg.interactive.click_evaluation import ClickProtocol, click_objects
from medseg.interactive.error_clicks import next_click
from medseg.interactive.prompts import Point
from medseg.interactive.session import InteractiveSession
from medseg.training.run_record import runs_of
from medseg.volume import Geometry, Volume
from medseg.workflows.evaluate_clicks import evaluate_clicks


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(places - np.array(centre), axis=-1) <= radius


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    return 2 * (mask & other).sum() / (mask.sum() + other.sum())


class TestNextClick:
    def test_is_in_the_largest_error_and_says_which_kind_it_is(self) -> None:
        reference, mask = np.zeros((2, 30, 20, 20), dtype=bool)
        reference[2:8, 2:8, 2:8] = True  # missed
        mask[15:17, 15:17, 15:17] = True  # too much, but little
        random = np.random.default_rng(0)
        assert next_click(mask, reference, (1, 1, 1), random, 0) in (Point((4, 4, 4)), Point((5, 5, 5)))
        mask[15:29, 2:18, 2:18] = True
        click = next_click(mask, reference, (1, 1, 1), random, 0)
        assert click is not None and not click.positive and mask[click.index]

    def test_the_depth_is_in_mm(self) -> None:
        """Two blobs of one piece: the one that is deeper in mm, not in voxels, is clicked."""
        reference = np.zeros((30, 30, 9), dtype=bool)
        reference[2:9, 2:9, 2:7] = True  # 7 × 7 voxels wide, of 1 mm: no more than 3.5 mm deep
        reference[16:20, 2:9, 4] = True
        reference[8:17, 5, 4] = True
        click = next_click(np.zeros_like(reference), reference, (1, 1, 5), np.random.default_rng(0), 0)
        assert click is not None and click.index[:2] == (5, 5)

    def test_jitter_stays_in_the_piece_and_is_the_seeds(self) -> None:
        reference = ball((40, 40, 40), (20, 20, 20), 9)
        nothing = np.zeros_like(reference)
        places = {
            next_click(nothing, reference, (1, 1, 1), np.random.default_rng(seed), 2).index  # type: ignore[union-attr]
            for seed in (0, 0, 1, 2, 3)
        }
        assert len(places) == 4 and all(reference[place] for place in places)

    def test_none_where_nothing_is_wrong(self) -> None:
        reference = ball((9, 9, 9), (4, 4, 4), 3)
        assert next_click(reference, reference, (1, 1, 1), np.random.default_rng(0)) is None


@pytest.mark.parametrize("method", [random_walker_mask, graph_cut_mask])
@pytest.mark.parametrize("size", [32, 72])  # looked at as it is, and in every second voxel
def test_what_stands_out_is_found_without_a_network(method, size: int) -> None:  # type: ignore[no-untyped-def]
    shape = (size, size, 32)
    truth = ball(shape, (size / 2, size / 2, 16), 9)
    other = ball(shape, (6, 6, 6), 4)  # as bright, but not clicked
    image = 100.0 * (truth | other) + np.random.default_rng(0).normal(0, 8, shape)
    clicks = [Point((size // 2, size // 2, 16)), Point((6, 6, 6), positive=False)]
    found = method(image, clicks, (1.0, 1.0, 1.0))
    assert found.shape == shape
    assert dice(found, truth) > 0.85
    assert not method(image, clicks[1:], (1.0, 1.0, 1.0)).any()  # nothing was clicked inside


def test_a_simulated_user_segments_an_object_of_balls() -> None:
    """The network answers with balls around all points inside: each click adds one where most is missing."""
    shape = (40, 36, 30)
    reference = ball(shape, (18, 18, 14), 6)
    image = Volume(reference[None].astype(np.float32), Geometry(shape, np.diag([-1.0, -1.0, 1.0, 1.0])))
    session = InteractiveSession(model_of(channel(INSIDE)), image)
    protocol = ClickProtocol(clicks=6, jitter=0, methods=("random walker", "graph cut"))
    objects = list(click_objects(session, "a", {"ball": reference, "not there": np.zeros_like(reference)}, protocol))
    assert [each.structure for each in objects] == ["ball"]
    found = objects[0]
    curve = [found.methods["model"].dice[n] for n in range(7)]
    assert curve[0] == 0 and all(after > before for before, after in pairwise(curve))
    assert curve[6] == pytest.approx(dice(session.mask, reference))
    assert all(reference[tuple(map(int, click.index))] for click in found.clicks) and len(found.seconds) == 6
    assert set(found.methods["model"].surface_dice) == {0, 1, 3, 5, 6}
    assert found.methods["random walker"].dice[6] > 0.9 and found.methods["graph cut"].dice[6] > 0.9


def test_labels_of_the_model_begin_with_its_automatic_mask() -> None:
    shape = (40, 36, 30)
    reference = ball(shape, (18, 18, 14), 6)
    image = Volume(reference[None].astype(np.float32), Geometry(shape, np.eye(4)))
    for start, expected in (("automatic", 1.0), ("nothing", 0.0)):
        session = InteractiveSession(model_of(), image)
        (found,) = click_objects(session, "a", {"bright": reference}, ClickProtocol(clicks=2, start=start))
        assert found.methods["model"].dice[0] == expected
        assert found.start == start
    assert found.methods["model"].dice[2] == 1.0 and len(found.clicks) == 1  # nothing was wrong any more


def test_summary_counts_clicks_to_a_dice() -> None:
    def clicked(structure: str, *dice: float) -> ClickedObject:
        return ClickedObject(
            case_id="a", structure=structure, start="nothing", reference_ml=1, clicks=(), seconds=(),
            methods={"model": Scores(dice=dict(enumerate(dice))), "random walker": Scores(dice={2: 0.5})},
        )  # fmt: skip

    summary = summarise_clicks([clicked("x", 0, 0.86, 0.95), clicked("y", 0, 0.4, 0.8)], clicks=2)
    of_all = summary["all"]["model"]
    assert of_all.noc == {"0.85": 1.5, "0.9": 2.0} and of_all.reached == {"0.85": 1, "0.9": 1}
    assert of_all.dice == pytest.approx({0: 0, 1: 0.63, 2: 0.875}) and of_all.lowest == 0.8
    assert of_all.auc == pytest.approx((0.63 / 2 + (0.63 + 0.875) / 2) / 2)
    assert summary["all"]["random walker"].auc is None and summary["x"]["model"].objects == 1


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="clicks: is 0"):
        ClickProtocol(clicks=0)
    with pytest.raises(ConfigError, match="'watershed' is not known; there are random walker, graph cut"):
        ClickProtocol(methods=("watershed",))
    with pytest.raises(ConfigError, match="jitter -1"):
        ClickProtocol(jitter=-1)


@pytest.fixture
def run_and_dataset(tmp_path: Path) -> tuple[Path, Path]:
    """A model of noise that answers to prompts, and two cases, one of which its run was trained on."""
    import nibabel as nib
    import torch

    from medseg.inferers.model import save_model
    from medseg.networks.registry import build_network

    record = model_of().record
    network = build_network(1, len(record.outputs), record.plan.architecture)
    torch.manual_seed(0)
    run, dataset = tmp_path / "run", tmp_path / "dataset"
    (run / "model").mkdir(parents=True)
    save_model(run / "model", record, network.state_dict())
    plan = json.loads(record.plan.model_dump_json())
    (run / "run.json").write_text(json.dumps(
        {"prepared": "/nowhere", "plan": plan, "training": ["a"], "validation": ["b"]}
    ))  # fmt: skip
    for folder in ("images", "labels"):
        (dataset / folder).mkdir(parents=True)
    for case_id in "ab":
        label_map = ball((24, 20, 18), (12, 10, 9), 5).astype(np.uint8)
        nib.save(nib.Nifti1Image(label_map * 90.0, np.eye(4)), dataset / "images" / f"{case_id}.nii.gz")
        nib.save(nib.Nifti1Image(label_map, np.eye(4)), dataset / "labels" / f"{case_id}.nii.gz")
    return run, dataset


def test_evaluate_by_clicks_from_the_command_line(run_and_dataset, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from typer.testing import CliRunner

    from medseg.cli.main import app

    run, dataset = run_and_dataset
    output = tmp_path / "clicked"
    arguments = ["evaluate", str(run), str(dataset), "--clicks", "2", "--start", "nothing", "-o", str(output)]
    result = CliRunner().invoke(app, [*arguments, "--against", "random walker"])
    assert result.exit_code == 0, result.output
    assert "random walker" in result.output and "NoC" in result.output
    record = read_clicks(output)
    assert [each.case_id for each in record.objects] == ["b"]  # the run has learnt from the other
    assert record.counts == (0, 1, 2) and record.start == "nothing" and record.seconds_per_answer > 0
    page = (output / "report.html").read_text()
    assert "clicks</text>" in page and "random walker" in page and "began with" in page


def test_clicks_are_set_in_the_named_cases(run_and_dataset, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run, dataset = run_and_dataset
    record = evaluate_clicks(run, dataset, clicks=1, cases=["a", "c"])
    assert [each.case_id for each in record.objects] == ["a"]
    assert [each.case_id for each in record.problems] == ["c"]
    written = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**written, "training": ["a", "b"]}))
    with pytest.raises(SourceError, match="was trained on every case; name those to evaluate anyway by --case"):
        evaluate_clicks(run, dataset)
    folds = run.parent / "folds"
    for fold, case in enumerate("ab"):
        (folds / f"fold_{fold}").mkdir(parents=True)
        content = {**written, "training": [case], "validation": ["ba"[fold]]}
        (folds / f"fold_{fold}" / "run.json").write_text(json.dumps(content))
    assert sorted(case for each in runs_of(folds / "model") for case in each.training) == ["a", "b"]
    assert runs_of(dataset) == []
