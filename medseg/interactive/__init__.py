"""Segmentation with a person in the loop: prompts, how a network sees them, and the session on one image.

Names are imported when they are first used.

Example:
    >>> from medseg.interactive import InteractiveSession, Point
    >>> Point((12, 40, 7), positive=False).index
    (12, 40, 7)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.interactive.object_mask import MaskChange
    from medseg.interactive.object_predictor import load_promptable
    from medseg.interactive.prompts import Box, Lasso, Point, Scribble
    from medseg.interactive.session import InteractiveSession

_HOMES = {
    "Box": "medseg.interactive.prompts",
    "InteractiveSession": "medseg.interactive.session",
    "Lasso": "medseg.interactive.prompts",
    "MaskChange": "medseg.interactive.object_mask",
    "Point": "medseg.interactive.prompts",
    "Scribble": "medseg.interactive.prompts",
    "load_promptable": "medseg.interactive.object_predictor",
}

__all__ = ["Box", "InteractiveSession", "Lasso", "MaskChange", "Point", "Scribble", "load_promptable"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg.interactive' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
