"""What ``medseg.io`` offers by itself."""

import doctest
from pathlib import Path

import pytest

import medseg.io
import medseg.labels
import medseg.terminology
import medseg.volume


def test_every_public_name_is_there() -> None:
    assert [name for name in medseg.io.__all__ if not getattr(medseg.io, name).__doc__] == []
    assert set(medseg.io.__all__) <= set(dir(medseg.io))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = medseg.io.nothing


@pytest.mark.parametrize(
    "module",
    [medseg.io, medseg.volume, medseg.labels, medseg.terminology],
    ids=lambda module: module.__name__,
)
def test_examples_give_what_they_say(module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
