"""Inference in bounded memory: sliding windows for any network, and what medseg's own prediction is made of.

Names are imported when they are first used, since PyTorch and MONAI take seconds to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.inferers.memory_plan import MemoryPlan
    from medseg.inferers.streaming import PlacedSlab, StreamingInferer

_HOMES = {
    "MemoryPlan": "memory_plan",
    "PlacedSlab": "streaming",
    "StreamingInferer": "streaming",
}

__all__ = ["MemoryPlan", "PlacedSlab", "StreamingInferer"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg.inferers' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"medseg.inferers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
