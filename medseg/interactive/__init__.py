"""Segmentation with a person in the loop: prompts, how a network sees them, and the session on one image.

Names are imported when they are first used.

Example:
    >>> from medseg.interactive import InteractiveSession, Point
    >>> Point((12, 40, 7), positive=False).index
    (12, 40, 7)
"""

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
