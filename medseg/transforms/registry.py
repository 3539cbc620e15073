"""MONAI's dictionary transforms by name, as users write them in YAML."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import monai.transforms
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from medseg.errors import ConfigError, cause_of, did_you_mean, lacks_memory
from medseg.plugin_errors import check_arguments, error_of_plugin, errors_of_plugins
from medseg.plugins import plugin_of
from medseg.transforms.spatial import geometry_of
from medseg.volume import Geometry

KEYS = ("image", "label")
# Beside those of monai.transforms.io: one writes files, the others need a function, which YAML cannot give.
LEFT_OUT = ("SaveClassificationd", "Lambdad", "RandLambdad")

Parameters = Mapping[str, inspect.Parameter]


def monai_transform(spec: Mapping[str, Any]) -> Transform:
    """Returns the dictionary transform of ``monai.transforms`` of that name, or that of a plugin (``medseg.plugins``).

    Transforms that read or write files are left out, since a model's transforms come with the model.

    Args:
        spec: ``{"name": ..., "keys": [...], ...}``, with the arguments of the transform. Keys are ``image`` and
            ``label``; a case without a label is no error.

    Raises:
        ConfigError: for a wrong name, argument or key.

    Examples:
        >>> type(monai_transform({"name": "ScaleIntensityd", "keys": ["image"]})).__name__
        'ScaleIntensityd'
    """
    arguments = dict(spec)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"transforms: {dict(spec)} has no name; write {{name: RandGaussianSharpend, ...}}")
    plugin = plugin_of("transform", name, is_taken=name in _dictionary_transforms())
    if plugin is not None:
        check_arguments(f"transforms: {name} of {plugin.file}", plugin.build, **arguments)
        with errors_of_plugins():
            built: Transform = plugin.build(**arguments)
        return built
    transform = _class(name)
    parameters = inspect.signature(transform.__init__).parameters
    _check_arguments(name, arguments, parameters)
    if "allow_missing_keys" in parameters:
        arguments.setdefault("allow_missing_keys", True)
    try:
        return transform(**arguments)
    except Exception as error:
        settings = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"transforms: {name}({settings}) is refused by MONAI: {reason}") from error


class ValueTransform(Transform):
    """A dictionary transform of the user that may change values, and nothing of the grid."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Takes what ``monai_transform`` takes, and raises what it raises."""
        self.name = spec.get("name")
        self.transform = monai_transform(spec)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Returns the data with changed values.

        Raises:
            ConfigError: The transform fails, or changes the grid.
        """
        image = data["image"]
        before, trace = geometry_of(image), list(image.applied_operations)
        try:
            changed: dict[str, Any] = self.transform(dict(data))
        except Exception as error:
            cause = cause_of(error)
            if lacks_memory(cause):
                raise
            reason = error_of_plugin(error) or f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            raise ConfigError(f"preprocessing.transforms: {self.name} failed: {reason}") from error
        if not isinstance(changed["image"], MetaTensor):
            changed["image"] = MetaTensor(convert_to_tensor(changed["image"])).copy_meta_from(image)
        difference = before.difference(geometry_of(changed["image"]))
        if difference is not None:
            raise ConfigError(
                f"preprocessing.transforms: {self.name} changes the grid ({difference}); only transforms of "
                "values can be added, set preprocessing.spacing or .orientation for the grid"
            )
        # There is no way back of values, and the way back of the grid leads past this step.
        changed["image"].applied_operations = trace
        return changed


def with_changed_values(
    specs: Sequence[Mapping[str, Any]], image: torch.Tensor, label_map: torch.Tensor | None, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns a case after the user's own transforms of a plan.

    Args:
        specs: As for ``monai_transform``, in their order.
        image: ``(channel, x, y, z)``.
        label_map: ``(x, y, z)``, or None.
        geometry: The grid of the two.

    Returns:
        The image, float32, and the label map.

    Raises:
        ConfigError: A transform fails, or changes the grid.
    """
    affine = torch.from_numpy(geometry.affine)
    data: dict[str, Any] = {"image": MetaTensor(image, affine=affine)}
    if label_map is not None:
        data["label"] = MetaTensor(label_map[None], affine=affine)
    for spec in specs:
        data = ValueTransform(spec)(data)
    changed = data["image"].as_tensor().float()  # they may have changed the types
    return changed, None if label_map is None else data["label"].as_tensor()[0]


def _class(name: str) -> type[MapTransform]:
    known = _dictionary_transforms()
    if name not in known:
        hint = did_you_mean(name, known)
        # Nothing is near: the list of all would bury the message.
        hint = hint if len(hint) < 80 else "; known are MONAI's dictionary transforms, whose names end with d"
        raise ConfigError(f"transforms: there is no transform '{name}'{hint}; one of a plugin needs --plugin")
    return known[name]


def _dictionary_transforms() -> dict[str, type[MapTransform]]:
    """Returns MONAI's dictionary transforms by their own names, not by the aliases ``...D`` and ``...Dict``."""
    return {
        cls.__name__: cls
        for cls in vars(monai.transforms).values()
        if inspect.isclass(cls)
        and issubclass(cls, MapTransform)
        and cls is not MapTransform
        and not cls.__module__.startswith("monai.transforms.io")
        and cls.__name__ not in LEFT_OUT
    }


def _check_arguments(name: str, arguments: dict[str, Any], parameters: Parameters) -> None:
    named = {
        key: parameter
        for key, parameter in parameters.items()
        if key != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in arguments:
        if key not in named and not takes_any:
            raise ConfigError(f"transforms: {name} has no argument '{key}'{did_you_mean(str(key), named)}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ConfigError(f"transforms: {name} needs the argument '{key}'")
    # MONAI takes 20 for 1 without a word.
    probability = arguments.get("prob", 0)
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ConfigError(f"transforms: {name} cannot have prob={probability!r}; it lies between 0 and 1")
    keys = arguments.get("keys", ())
    for key in [keys] if isinstance(keys, str) else keys:
        if key not in KEYS:
            raise ConfigError(f"transforms: {name} cannot work on '{key}'{did_you_mean(str(key), KEYS)}")
