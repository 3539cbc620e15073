"""What network a plan names: depth, width, and what it sees beside the image. Data only."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from medseg.records import Record

# Beyond these an architecture is damaged, or means harm: no machine could do what it says.
MOST_STAGES = 16
MOST_FEATURES = 2**16
LARGEST_KERNEL = 63
LARGEST_ARGUMENT = 2**14

Step = Annotated[int, Field(ge=1, le=LARGEST_KERNEL)]


def _numbers(value: object) -> Iterator[int | float]:
    """Yields all numbers in nested lists and mappings."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


# The name of a network that the user brought as a module: nothing can build it again.
CUSTOM_NETWORK = "custom"


PROMPT_CHANNELS = (
    "previous mask",
    "points inside",
    "points outside",
    "box inside",
    "box outside",
    "scribbles inside",
    "scribbles outside",
)
OBJECT = "object"  # the output that answers to prompts


class PromptChannels(Record):
    """What the network sees of a user's prompts, in channels behind those of the image: ``PROMPT_CHANNELS``.

    Values go from 0 to 1. All are 0 where nobody prompts.

    Attributes:
        point_radius_mm: Of the ball around a point: 1 at the point, 0 beyond it.
        scribble_radius_mm: By how much scribbles are thicker than they were drawn, on each side.
        decay: What a prompt is multiplied by for each one that came after it: the newest is the strongest.
        objects: What the network has learnt to answer with: "labels", or "any" object, which need have none.
    """

    point_radius_mm: PositiveFloat
    scribble_radius_mm: NonNegativeFloat
    decay: float = Field(0.9, gt=0, le=1)
    objects: Literal["labels", "any"] = "labels"


class Architecture(Record):
    """The network's name, depth and width.

    Attributes:
        name: As in ``NETWORKS``, or "monai.NAME".
        features: Number of features of each stage, from full resolution down.
        strides: Of each stage, one number an axis. Those of the first stage are 1, but for a network that begins at a
            part of the resolution.
        kernel_sizes: Of each stage, one number an axis.
        convolutions_per_stage: How many convolutions each stage has.
        deep_supervision: Whether coarser stages are trained to give logits too.
        arguments: What this network alone knows.
        prompts: What it sees of a user's prompts, beside the image, and answers by one more output, the sigmoid of
            "object". None: nothing.
    """

    name: str = "unet"
    features: tuple[Annotated[int, Field(ge=1, le=MOST_FEATURES)], ...] = Field(min_length=1, max_length=MOST_STAGES)
    strides: tuple[tuple[Step, ...], ...]
    kernel_sizes: tuple[tuple[Step, ...], ...]
    convolutions_per_stage: int = Field(2, ge=1, le=64)
    deep_supervision: bool = True
    arguments: dict[str, Any] = Field(default_factory=dict)  # what this network alone knows
    prompts: PromptChannels | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        counts = len(self.features), len(self.strides), len(self.kernel_sizes)
        if len(set(counts)) > 1:
            raise ValueError(f"features, strides and kernel sizes are those of {counts} stages")
        dims = {len(each) for each in (*self.strides, *self.kernel_sizes)}
        if len(dims) > 1 or not dims <= {2, 3}:
            raise ValueError(f"strides and kernel sizes are of {sorted(dims)} axes; all have to be of 2, or of 3")
        if any(abs(number) > LARGEST_ARGUMENT for number in _numbers(self.arguments)):
            raise ValueError(f"an argument of the network is larger than {LARGEST_ARGUMENT:,}")
        return self
