import tomllib
from pathlib import Path

import pytest

import medseg
from medseg import extras
from medseg.errors import ConfigError

PYPROJECT = Path(medseg.__file__).parents[1] / "pyproject.toml"


def test_extras_can_be_installed() -> None:
    known = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras.MODULES) <= set(known)


def test_the_extras_that_are_lacking_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.check_installed("serve")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in ("blosc2", "mirp") else object())
    assert extras.is_installed("zarr") and not extras.is_installed("radiomics")
    with pytest.raises(ConfigError) as caught:
        extras.check_installed("serve", "serve", "zarr", "radiomics")
    assert str(caught.value) == "serve: needs blosc2, mirp: pip install 'medseg[serve,radiomics]'"
