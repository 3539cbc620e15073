"""The examples in docstrings are what they say."""

import doctest
import importlib
import pkgutil

import pytest

import medseg.transforms

MODULES = [
    *(each.name for each in pkgutil.walk_packages(medseg.transforms.__path__, "medseg.transforms.")),
    "medseg.dataset.patches",
    "medseg.dataset.splits",
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
