"""Parameters of tests that are many."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(names: Iterable[str], *often: str) -> list[Any]:
    """Returns names as parameters: those in ``often`` for every run, the others for the slow one."""
    return [name if name in often else pytest.param(name, marks=pytest.mark.slow) for name in names]
