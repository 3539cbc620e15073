"""How a bundle lays windows and what it makes of logits, in the words of medseg's plan."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from medseg.config import InferenceConfig
from medseg.interop.bundle.configuration import BundleConfig, Component
from medseg.interop.bundle.expressions import parsed
from medseg.plan import Windows
from medseg.postprocessing.components import Rule
from medseg.records import explained, shown_value
from medseg.volume import Shape3

PREDICTION = "pred"
# Arguments of MONAI's inferers that are about memory, and about telling of progress.
OF_MEMORY = (
    "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim",
)  # fmt: skip
DEFAULT_OVERLAP = 0.25  # MONAI's
# Steps behind the network that write files, or change types, names and places of values only.
NOTHING = {"SaveImaged", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced", "DeleteItemsd", "SqueezeDimd"}
ASIDE = ("allow_missing_keys", "dtype", "meta_keys", "meta_key_postfix", "device", "to_tensor", "_desc_")


@dataclass(frozen=True)
class BundleWindows:
    """The inferer of a bundle.

    Attributes:
        patch_size: The window, one voxel thick along ``slice_axis``.
        slice_axis: Of a 2D network; None in 3D.
        windows: How their logits are averaged.
        inference: Their overlap, and how many are seen at once.
    """

    patch_size: Shape3
    slice_axis: int | None
    windows: Windows
    inference: InferenceConfig


def bundle_windows(configuration: BundleConfig, dims: int) -> BundleWindows:
    """Returns how a bundle lays windows.

    Args:
        configuration: Of the bundle.
        dims: Of its network.

    Raises:
        ModelError: It has another inferer than SlidingWindowInferer, or SliceInferer of a 2D network, or arguments that
            medseg cannot follow.
    """
    inferer = configuration.component("inferer", "an inferer")
    wanted = {2: "SliceInferer", 3: "SlidingWindowInferer"}[dims]
    if inferer.name != wanted:
        raise inferer.error(f"is {inferer.target}; medseg takes {wanted} for a {dims}D network")
    own = {"spatial_dim": ...} if dims == 2 else {}
    taken = {
        "roi_size": ...,
        "sw_batch_size": ...,
        "overlap": ...,
        "mode": ...,
        "sigma_scale": ...,
        "padding_mode": ...,
    }
    inferer.only({**taken, "cval": 0, "with_coord": False, **own}, OF_MEMORY)
    roi, across = inferer.argument("roi_size"), inferer.argument("spatial_dim", 0)
    edges = list(roi) if isinstance(roi, list | tuple) else [roi] * dims
    if len(edges) != dims or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in edges):
        raise inferer.error(f"is {shown_value(roi)}; medseg takes {dims} numbers of voxels", "roi_size")
    if dims == 2:
        if across not in (0, 1, 2):
            raise inferer.error(f"is {shown_value(across)}, no axis of an image", "spatial_dim")
        edges.insert(across, 1)
    overlap = inferer.argument("overlap", DEFAULT_OVERLAP)
    overlap = overlap[0] if isinstance(overlap, list | tuple) and len(set(overlap)) == 1 else overlap
    try:
        windows = Windows(
            weighting=inferer.argument("mode", "constant"),
            sigma=inferer.argument("sigma_scale", 0.125),
            padding=inferer.argument("padding_mode", "constant"),
        )
        inference = InferenceConfig(overlap=overlap, window_batch_size=inferer.argument("sw_batch_size", 1))
    except ValidationError as error:
        raise inferer.error(f"cannot be taken: {explained(error)}") from error
    x, y, z = edges
    return BundleWindows((x, y, z), across if dims == 2 else None, windows, inference)


@dataclass
class BundleOutput:
    """What a bundle makes of logits.

    Attributes:
        restored: What comes back to the grid of the source: "logits", "probabilities" or "labels".
        sigmoid: Whether each output is a structure by itself.
        written: Of sigmoids: which output writes which value, in the order in which they are written; () where the
            bundle doesn't merge them.
        values: By label, the value that it gets in the end.
        largest: The labels of which only the largest component is kept, and …
        filled: … those whose holes are filled.
        on_model_grid: Whether that is done before the label map comes back to the grid of the source.
        notes: What medseg does otherwise.
    """

    restored: str = "logits"
    sigmoid: bool = False
    written: tuple[tuple[int, int], ...] = ()
    values: dict[int, int] = field(default_factory=dict)
    largest: tuple[int, ...] = ()
    filled: tuple[int, ...] = ()
    on_model_grid: bool = False
    notes: list[str] = field(default_factory=list)

    def rules(self, names: Sequence[str]) -> tuple[Rule, ...]:
        """Returns the rules of postprocessing, for labels of these names."""
        return tuple(
            Rule(
                label=name,
                largest_component=i in self.largest,
                fill_holes=i in self.filled,
                on_model_grid=self.on_model_grid,
            )
            for i, name in enumerate(names, start=1)
            if i in (*self.largest, *self.filled)
        )


def bundle_output(configuration: BundleConfig, n_outputs: int) -> BundleOutput:
    """Returns what a bundle makes of logits.

    Args:
        configuration: Of the bundle.
        n_outputs: Of its network.

    Raises:
        ModelError: A step is not on the list, or medseg cannot follow its arguments.
    """
    if "postprocessing" not in configuration:
        return BundleOutput()
    whole = configuration.component("postprocessing", "transforms")
    steps = list(whole.components("transforms")) if whole.name == "Compose" else [whole]
    output, form = BundleOutput(), "logits"
    for step in steps:
        keys = step.argument("keys", PREDICTION)
        if step.name in NOTHING or PREDICTION not in (keys if isinstance(keys, list | tuple) else [keys]):
            continue
        form = _taken(step, output, form, n_outputs)
    if output.sigmoid and not output.written:
        if n_outputs > 1:
            raise whole.error(
                "leaves one mask for each output, which may overlap, and medseg writes one label map; add a Lambdad, "
                "'$lambda x: torch.where(x[[1]] > 0, 2, torch.where(x[[0]] > 0, 1, 0))', which says what is on top"
            )
        output.written = ((0, 1),)
    return output


def _taken(step: Component, output: BundleOutput, form: str, n_outputs: int) -> str:
    """Adds a step to ``output``; returns what the prediction is after it: "logits", "probabilities" or "labels"."""
    match step.name:
        case "Activationsd":
            step.only({"keys": ..., "softmax": ..., "sigmoid": ..., "other": None}, ASIDE)
            output.sigmoid = bool(step.argument("sigmoid", False))
            either = output.sigmoid or bool(step.argument("softmax", False))
            return "probabilities" if either and form == "logits" else form
        case "AsDiscreted":
            step.only({"keys": ..., "argmax": ..., "threshold": ..., "to_onehot": None, "rounding": None}, ASIDE)
            return _discrete(step, output)
        case "Invertd":
            wanted = {"keys": ..., "transform": ..., "orig_keys": "image", "nearest_interp": ..., "post_func": None}
            step.only(wanted, (*ASIDE, "orig_meta_keys"))
            nearest = bool(step.argument("nearest_interp", True))
            if form == "labels" and not nearest:
                output.notes.append("label maps are brought back by the nearest voxel, not by means of label values")
            output.restored = "labels" if nearest else form
            output.on_model_grid = output.restored == "labels" and bool(output.largest or output.filled)
        case "KeepLargestConnectedComponentd":
            wanted = {
                "keys": ...,
                "applied_labels": ...,
                "independent": True,
                "num_components": 1,
                "connectivity": None,
            }
            step.only(wanted, (*ASIDE, "is_onehot"))
            output.largest = _labels(step, n_outputs)
        case "FillHolesd":
            step.only({"keys": ..., "applied_labels": ..., "connectivity": None}, ASIDE)
            output.filled = _labels(step, n_outputs)
        case "MapLabelValued":
            step.only({"keys": ..., "orig_labels": ..., "target_labels": ...}, ASIDE)
            old, new = (_numbers(step, name) for name in ("orig_labels", "target_labels"))
            output.values = dict(zip(old, new, strict=False))
        case "Lambdad" if output.sigmoid:
            output.written = _written(step, n_outputs)
            return "labels"
        case _:
            raise step.error(f"is {step.target}, which medseg does not take behind a network")
    return form


def _discrete(step: Component, output: BundleOutput) -> str:
    threshold = step.argument("threshold")
    if bool(step.argument("argmax", False)) and not output.sigmoid:
        return "labels"
    if output.sigmoid and threshold == 0.5:
        return "labels"
    raise step.error("neither takes the largest output nor, of sigmoids, what is above 0.5")


def _numbers(step: Component, name: str) -> tuple[int, ...]:
    values = step.argument(name)
    if not isinstance(values, list | tuple) or not all(isinstance(each, int) for each in values):
        raise step.error(f"is {shown_value(values)}, no list of label values", name)
    return tuple(values)


def _labels(step: Component, n_outputs: int) -> tuple[int, ...]:
    """Returns the labels that a step works on; all but the background where it doesn't say."""
    if step.argument("applied_labels") is None:
        return tuple(range(1, n_outputs))
    return tuple(each for each in _numbers(step, "applied_labels") if each != 0)


def _written(step: Component, n_outputs: int) -> tuple[tuple[int, int], ...]:
    """Returns which output writes which value, the first one first, of a function of one form.

    It is ``$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))``: what is asked first lies on top.
    """
    text = step.raw_argument("func")
    wrong = step.error(f"is {shown_value(text)}, which medseg does not run; see there for what it takes", "func")
    try:
        node = parsed(str(text).removeprefix("$").strip())
    except ValueError:
        raise wrong from None
    if not isinstance(node, ast.Lambda) or [each.arg for each in node.args.args] != ["x"]:
        raise wrong
    found: list[tuple[int, int]] = []
    rest = node.body
    while True:
        match rest:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="torch"), attr="where"),
                args=[
                    ast.Compare(
                        left=ast.Subscript(
                            value=ast.Name(id="x"), slice=ast.List(elts=[ast.Constant(value=int() as i)])
                        ),
                        ops=[ast.Gt()],
                        comparators=[ast.Constant(value=0 | 0.5)],
                    ),
                    ast.Constant(value=int() as value),
                    rest,
                ],
            ) if i < n_outputs and len(found) < n_outputs:
                found.append((i, value))
            case ast.Constant(value=0) if found:
                return tuple(reversed(found))
            case _:
                raise wrong
