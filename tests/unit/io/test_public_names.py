"""What ``medseg.io`` offers by itself."""

import pytest

import medseg.io


def test_every_public_name_is_there() -> None:
    assert [name for name in medseg.io.__all__ if not getattr(medseg.io, name).__doc__] == []
    assert set(medseg.io.__all__) <= set(dir(medseg.io))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = medseg.io.nothing
