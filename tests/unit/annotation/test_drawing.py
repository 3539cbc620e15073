import itertools
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from medseg.annotation import drawing as module
from medseg.annotation.drawing import HEAD, DrawnLabelMap
from medseg.annotation.interpolation import with_slices_between
from medseg.annotation.shown_grid import ShownGrid
from medseg.errors import OutputError, SourceError
from medseg.interactive.bounds import slices
from medseg.volume import Geometry

SHAPE = (6, 5, 4)
BOX = ((1, 4), (0, 2), (2, 3))


def ones(bounds: tuple[tuple[int, int], ...], value: int = 1) -> np.ndarray:
    return np.full([stop - start for start, stop in bounds], value, np.uint8)


def drawn(journal: Path) -> DrawnLabelMap:
    return DrawnLabelMap(np.zeros(SHAPE, np.uint8), journal)


def test_a_change_is_the_smallest_box(tmp_path: Path) -> None:
    drawing = drawn(tmp_path / "case.journal")
    values = ones(((0, 6), (0, 5), (0, 4)), 0)
    values[2, 3, 1] = 7
    change = drawing.change(((0, 6), (0, 5), (0, 4)), values, "edit")
    assert change.bounds == ((2, 3), (3, 4), (1, 2))
    assert change.values.tolist() == [[[7]]]
    assert drawing.change(((2, 3), (3, 4), (1, 2)), change.values, "edit").values.size == 0  # nothing new
    assert len(drawing.done) == 1


def test_undo_gives_back_what_was(tmp_path: Path) -> None:
    drawing = drawn(tmp_path / "case.journal")
    drawing.change(BOX, ones(BOX), "edit")
    first = drawing.label_map.copy()
    drawing.change(((0, 6), (0, 5), (2, 3)), ones(((0, 6), (0, 5), (2, 3)), 2), "prompt")
    change = drawing.undo()
    assert change is not None
    np.testing.assert_array_equal(drawing.label_map, first)
    assert drawing.undo() is not None
    assert not drawing.label_map.any()
    assert drawing.undo() is None


@pytest.mark.parametrize("lost", [0, 1, 30])
def test_a_journal_is_taken_up_and_its_torn_end_is_dropped(tmp_path: Path, lost: int) -> None:
    journal = tmp_path / "case.journal"
    drawing = drawn(journal)
    drawing.change(BOX, ones(BOX), "edit")
    drawing.change(BOX, ones(BOX, 2), "edit")
    drawing.undo()
    kept = drawing.label_map.copy()
    drawing.change(((5, 6), (4, 5), (3, 4)), ones(((5, 6), (4, 5), (3, 4)), 3), "edit")
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) - lost])
    again = drawn(journal)
    np.testing.assert_array_equal(again.label_map, drawing.label_map if lost == 0 else kept)
    again.change(((0, 1), (0, 1), (0, 1)), ones(((0, 1), (0, 1), (0, 1)), 4), "edit")
    assert drawn(journal).label_map[0, 0, 0] == 4  # what follows a torn end is read
    while again.undo():
        pass
    assert not again.label_map.any()


def test_a_journal_over_what_was_saved_changes_nothing(tmp_path: Path) -> None:
    """Killed after the label map was saved, before the journal was removed."""
    journal = tmp_path / "case.journal"
    drawing = drawn(journal)
    for value, bounds in enumerate([BOX, ((0, 6), (0, 5), (2, 3)), ((2, 3), (1, 2), (0, 4))], start=1):
        drawing.change(bounds, ones(bounds, value), "edit")
    drawing.undo()
    saved = drawing.label_map.copy()
    np.testing.assert_array_equal(DrawnLabelMap(saved, journal).label_map, saved)


@pytest.mark.parametrize("strokes", [0, 1])
def test_a_full_disk_loses_no_stroke_but_the_one_that_was_refused(tmp_path: Path, strokes: int) -> None:
    journal = tmp_path / "case.journal"
    drawing = drawn(journal)
    for _ in range(strokes):
        drawing.change(BOX, ones(BOX), "edit")
    free, usual = 30 + (journal.stat().st_size if strokes else 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, usual[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            drawing.change(BOX, ones(BOX, 2), "edit")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    drawing.change(BOX, ones(BOX, 3), "edit")
    np.testing.assert_array_equal(drawn(journal).label_map, drawing.label_map)
    assert len(drawing.done) == strokes + 1


@pytest.mark.parametrize("length", [0, 5])
def test_killed_at_the_first_stroke(tmp_path: Path, length: int) -> None:
    journal = tmp_path / "case.journal"
    journal.write_bytes(HEAD.pack(module.MAGIC, *SHAPE)[:length])
    drawing = drawn(journal)
    drawing.change(BOX, ones(BOX), "edit")
    np.testing.assert_array_equal(drawn(journal).label_map, drawing.label_map)


def test_a_strangers_journal_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "case.journal"
    journal.write_bytes(b"something else altogether")
    with pytest.raises(SourceError, match="no journal"):
        drawn(journal)
    journal.write_bytes(HEAD.pack(b"medsegJ1", 9, 9, 9))
    with pytest.raises(SourceError, match="was drawn on"):
        drawn(journal)


def test_a_bomb_in_a_journal_is_not_unpacked(tmp_path: Path) -> None:
    import zlib

    journal = tmp_path / "case.journal"
    bomb = zlib.compress(bytes(10**7))
    entry = module.ENTRY.pack(module.MARK, 0, 1.0, 0, 1, 0, 1, 0, 1, len(bomb), zlib.crc32(bomb))
    outside = module.ENTRY.pack(module.MARK, 0, 1.0, 0, 99, 0, 1, 0, 1, len(bomb), zlib.crc32(bomb))
    for given in (entry, outside):
        journal.write_bytes(HEAD.pack(b"medsegJ1", *SHAPE) + given + bomb)
        assert drawn(journal).label_map.sum() == 0


def test_kill_9_while_drawing_loses_no_stroke_that_was_answered(tmp_path: Path) -> None:
    journal = tmp_path / "case.journal"
    program = f"""
import numpy as np
from pathlib import Path
from medseg.annotation.drawing import DrawnLabelMap
drawing = DrawnLabelMap(np.zeros((16, 16, 16), np.uint8), Path({str(journal)!r}))
for step in range(10**6):
    values = np.random.default_rng(step).integers(0, 9, (16, 16, 16), np.uint8)
    drawing.change(((0, 16), (0, 16), (0, 16)), values, "edit")
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answered = [int(line) for line in itertools.islice(process.stdout, 5)][-1]
        os.kill(process.pid, signal.SIGKILL)
        answered = max([answered, *(int(line) for line in process.stdout if line.strip())])
    again = DrawnLabelMap(np.zeros((16, 16, 16), np.uint8), journal)
    steps = (answered, answered + 1)  # one more may be on the disk that nobody was told of
    assert any(
        np.array_equal(again.label_map, np.random.default_rng(step).integers(0, 9, (16, 16, 16), np.uint8))
        for step in steps
    )


def test_time_of_work_leaves_out_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 1000.0, 1005.0])
    monkeypatch.setattr(module.time, "time", lambda: next(clock))
    drawing = drawn(tmp_path / "case.journal")
    drawing.change(BOX, ones(BOX), "edit")  # 10 s later
    drawing.change(BOX, ones(BOX, 2), "edit")  # 890 s later, of which 60 count
    assert drawing.seconds_of_work() == 75.0


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA", "AIL"])
def test_the_shown_grid_and_back(orientation: str) -> None:
    rng = np.random.default_rng(0)
    tilted = nibabel.affines.from_matvec(
        np.linalg.qr(np.eye(3) + 0.15 * rng.normal(size=(3, 3)))[0] @ np.diag([1, 2, 3])
    )
    grid = ShownGrid(Geometry((4, 5, 6), tilted).oriented_as(orientation))
    array = rng.integers(0, 9, grid.source.shape)
    shown = grid.array_to_shown(array)
    assert shown.shape == grid.shown.shape
    assert grid.shown.orientation == "RAS"
    np.testing.assert_array_equal(grid.array_to_source(shown), array)
    for voxel in [(0, 0, 0), (1, 2, 3), (3, 1, 0)]:
        source = grid.voxel_to_source(voxel)
        assert array[source] == shown[voxel]
        # The world says the same, by nibabel alone.
        np.testing.assert_allclose(apply_affine(grid.source.affine, source), apply_affine(grid.shown.affine, voxel))
    bounds = ((0, 2), (1, 3), (2, 3))
    back = grid.to_source(bounds)
    assert grid.to_shown(back) == bounds
    np.testing.assert_array_equal(grid.array_to_source(shown[slices(bounds)]), array[slices(back)])


def ball(radius: float, n: int = 31) -> np.ndarray:
    x, y, z = np.indices((n, n, n)) - n // 2
    return x**2 + y**2 + z**2 <= radius**2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_fourth_slice_of_a_ball_gives_the_ball(axis: int) -> None:
    whole = ball(12)
    kept = np.moveaxis(np.zeros_like(whole), axis, 0)
    kept[3::4] = np.moveaxis(whole, axis, 0)[3::4]
    sparse = np.moveaxis(kept, 0, axis)
    filled = with_slices_between(sparse, axis)
    between = np.moveaxis(whole & False, axis, 0).copy()
    drawn_at = np.flatnonzero(kept.any(axis=(1, 2)))
    between[drawn_at[0] : drawn_at[-1] + 1] = np.moveaxis(whole, axis, 0)[drawn_at[0] : drawn_at[-1] + 1]
    reference = np.moveaxis(between, 0, axis)
    dice = 2 * (filled & reference).sum() / (filled.sum() + reference.sum())
    assert dice > 0.95  # a ball bulges between slices, a straight line does not
    assert not (sparse & ~filled).any()
    assert filled.sum() > 3 * sparse.sum()


def test_an_oblique_tube_stays_connected_and_moves_evenly() -> None:
    mask = np.zeros((40, 20, 5), bool)
    mask[2:8, 5:11, 0] = True
    mask[30:36, 5:11, 4] = True
    filled = with_slices_between(mask, 2)
    assert filled.sum(axis=(0, 1)).tolist() == [36] * 5
    centres = [np.argwhere(filled[..., k])[:, 0].mean() for k in range(5)]
    assert centres == [4.5, 11.5, 18.5, 25.5, 32.5]


def test_nothing_between_two_slices_stays_nothing() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 1] = True
    np.testing.assert_array_equal(with_slices_between(mask, 2), mask)
