import json
from pathlib import Path

import pytest

from medseg.errors import ConfigError, SourceError
from medseg.files import write_json
from medseg.plan import Grid
from medseg.records import Record, inside, read_json, read_record, read_yaml


class Numbers(Record):
    n: int
    part: float = 0.5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "not JSON"),
        (b'{"n": 1, "n": 2}', "'n' occurs twice"),
        (b'{"n": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b"[" * 100_000, "recursion"),
        ('{"é": 1}'.encode("latin-1"), "byte 2 is not UTF-8"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_is_no_json_is_refused_with_its_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.__cause__ is not None
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_the_encodings_that_programs_write(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"größe": 1}', encoding=encoding)
    assert read_json(path) == {"größe": 1}


def test_what_is_not_defined_is_null_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[NaN, -Infinity, 1e999, 1.5, "NaN"]')
    assert read_json(path) == [None, None, None, 1.5, "NaN"]
    write_json(path, {"a": [float("nan"), (float("inf"), 1.0)]})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"a": [None, [None, 1.0]]}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(SourceError, match="no file"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "'n' is missing; do this"),
        ({"n": 1, "m": 2}, "'m' is not known"),
        ({"n": "one"}, "'n' cannot be 'one': input should be a valid integer"),
        ({"n": 10**25}, "n"),
        ({"n": 1, "part": float("nan")}, "'part' cannot be None"),
        ([], "where a JSON object"),
    ],
)
def test_a_record_names_the_entry_that_is_wrong(content: object, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    if content == {"n": 10**25}:
        assert read_record(path, Numbers, "do this").n == 10**25
        return
    with pytest.raises(ConfigError, match=reason):
        read_record(path, Numbers, "do this", ConfigError)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("training: {epochs: !!int foo}", "invalid literal"),
        ("training: {epochs: 2024-13-45}", "month must be in 1..12"),
        ("[" * 10_000, "recursion"),
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]", "holds itself"),
        ("a: 1\na: 2", "'a' occurs twice"),
        ("a: 0x" + "f" * 5000, "a number of 5002 digits"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!python/object:os.system x", "line 1, column 4"),
        ("a: [1", "line 1, column"),
    ],
)
def test_what_yaml_cannot_make_is_refused_with_its_reason(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        read_yaml(path, "do this", ConfigError)


@pytest.mark.parametrize("path", ["a.nii.gz", "cases/a", "a..b", "Fälle/ü"])
def test_paths_inside(path: str) -> None:
    assert inside(path) == path


@pytest.mark.parametrize("path", ["..", "../a", "a/../../b", "/etc/passwd", "a\\..\\b", "a\0b", ""])
def test_paths_that_leave(path: str) -> None:
    with pytest.raises(ValueError, match="inside"):
        inside(path)


def test_plans_of_version_0_1_are_read() -> None:
    content = {
        "orientation": "RAS", "spacing": (1.0, 1.0, 1.0), "crop_to_nonzero": True, "normalisation": [{"kind": "ct"}],
    }  # fmt: skip
    assert Grid.model_validate(content).normalization[0].kind == "ct"
