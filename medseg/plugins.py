"""Plugins: Python files of the user's that register networks, losses, transforms, optimizers, schedules and callbacks.

A plugin is code, so only the user names one: ``--plugin my.py``, or ``load_plugins`` in Python. No model, dataset or
file of settings can. What a plugin registers is then used by its name, as in ``network.name`` and ``loss.name``.

Example of a plugin:

    from torch import nn
    from medseg.plugins import register_loss, register_network

    @register_network("tiny", dims=(3,))
    class Tiny(nn.Module):
        def __init__(self, in_channels, out_channels, spatial_dims, width=8): ...

    @register_loss("my-loss")
    class MyLoss(nn.Module):
        def forward(self, logits, target): ...
"""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from medseg.plugin_errors import PluginError, errors_of_plugins, plugin_files

__all__ = [
    "PluginError", "Registered", "load_plugins", "register_callback", "register_loss", "register_network",
    "register_optimizer", "register_schedule", "register_transform", "registered",
]  # fmt: skip

T = TypeVar("T", bound=Callable[..., Any])
Kind = Literal["network", "loss", "transform", "optimizer", "schedule", "callback"]


@dataclass(frozen=True)
class Registered:
    """What a plugin registered.

    Attributes:
        kind: "network", "loss", "transform", "optimizer", "schedule" or "callback".
        name: By which it is chosen.
        build: The class or function that was decorated.
        file: The plugin.
        dims: Of a network: 2, 3 or both.
        learning_rate: Of a network: the highest of the schedule, where the user sets none.
        multiple_of: Of a network: what edges of its images are multiples of. None: it is found by trying.
        title: Of a network: what a table says of it.
        source: Of a network: where it was published.
    """

    kind: Kind
    name: str
    build: Callable[..., Any]
    file: Path
    dims: tuple[int, ...] = (2, 3)
    learning_rate: float = 3e-3
    multiple_of: int | None = None
    title: str = ""
    source: str = ""


_registered: dict[tuple[Kind, str], Registered] = {}
_loading: list[Path] = []  # the plugin that is running


def register_network(name: str, **properties: Any) -> Callable[[T], T]:
    """Registers a class or function that makes a network, for ``network.name``.

    It is called with ``in_channels``, ``out_channels`` and ``spatial_dims``, as MONAI's networks are, with the plan's
    ``architecture`` (a ``medseg.architecture.Architecture``: strides, kernels, features) where it has a parameter of
    that name, and with ``network.arguments``. It returns a ``torch.nn.Module`` from
    ``(batch, in_channels, *spatial)`` to logits, ``(batch, out_channels, *spatial)``. While it trains it may return a
    list of them: the heads of deep supervision, from the finest down.

    Args:
        name: The network's name.
        **properties: ``dims`` ((2, 3) by default), ``learning_rate`` (3e-3), ``multiple_of`` (found by trying),
            ``title`` and ``source``; see ``Registered``.
    """
    return _decorator("network", name, properties)


def register_loss(name: str) -> Callable[[T], T]:
    """Registers a class or function that makes a loss, for ``loss.name``.

    It is called with ``loss.arguments``. It returns a module of ``(logits, target)`` that gives a scalar. Logits are
    ``(batch, label, *spatial)``; the target is ``(batch, 1, *spatial)``, int64, the label of each voxel. Where regions
    are learnt, logits are ``(batch, region, *spatial)`` and the target is their masks, float32, of the same shape.
    Each head of deep supervision is a call of its own.

    A module whose ``forward`` has a parameter ``annotated`` is told which labels (or regions) were annotated in each
    sample: ``(batch, label)``, bool, or None where all were. Others are refused where some were not. One that has an
    argument ``ignore_index``, and is given 255 by it, knows voxels that are to be ignored, where labels are learnt.

    Args:
        name: The loss's name.
    """
    return _decorator("loss", name, {})


def register_transform(name: str) -> Callable[[T], T]:
    """Registers a class or function that makes a dictionary transform, for ``augmentation.transforms``.

    It is called with what the settings hold beside the name, as ``keys=["image"]``.

    Args:
        name: The transform's name.
    """
    return _decorator("transform", name, {})


def register_optimizer(name: str) -> Callable[[T], T]:
    """Registers a class or function that makes an optimizer, for ``training.optimizer``.

    It is called with the parameters of the network, with ``lr``, the highest learning rate of the schedule, and with
    ``training.optimizer_arguments``. It returns a ``torch.optim.Optimizer``. Where its groups have other rates than
    ``lr``, these keep their ratio.

    Args:
        name: The optimizer's name.
    """
    return _decorator("optimizer", name, {})


def register_schedule(name: str) -> Callable[[T], T]:
    """Registers a function that gives the learning rate after the warm-up, for ``training.schedule``.

    It is called with the part of the schedule after the warm-up that is done, in 0 … 1, which steps or the clock
    measure. It returns the learning rate as a part of the highest one: ``lambda done: 1 - done`` falls in a straight
    line.

    Args:
        name: The schedule's name.
    """
    return _decorator("schedule", name, {})


def register_callback(name: str) -> Callable[[T], T]:
    """Registers a class or function that makes a callback of training; see ``medseg.training.callbacks``.

    One is made at the beginning of each run, without arguments, or with those that ``training.callbacks`` gives it:
    ``{name: NAME, every: 2}``.

    Args:
        name: The callback's name.
    """
    return _decorator("callback", name, {})


def _decorator(kind: Kind, name: str, properties: dict[str, Any]) -> Callable[[T], T]:
    file = _loading[-1] if _loading else Path(sys._getframe(2).f_code.co_filename)

    def register(build: T) -> T:
        known = _registered.get((kind, name))
        if known is not None and known.file != file:
            raise PluginError(f"{file}: registers the {kind} '{name}', and so does {known.file}; take another name")
        _registered[kind, name] = Registered(kind, name, build, file, **properties)
        return build

    return register


def load_plugins(files: Iterable[str | Path]) -> list[Registered]:
    """Runs plugins, and returns what they registered.

    Args:
        files: Python files. One that was loaded before is run again, and what it registered then is forgotten.

    Raises:
        PluginError: A file is not there, raises an error, or registers nothing.
    """
    return [each for file in files for each in _load(Path(file).resolve())]


def _load(file: Path) -> list[Registered]:
    if not file.is_file():
        raise PluginError(f"--plugin: there is no file {file}")
    forget_plugins(file)
    plugin_files.add(str(file))
    name = f"medseg_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin: {file} is no Python file; its name should end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle and dataclasses look for what it defines
    _loading.append(file)
    try:
        with errors_of_plugins():
            spec.loader.exec_module(module)
    finally:
        _loading.pop()
    found = [each for each in _registered.values() if each.file == file]
    if not found:
        raise PluginError(
            f"--plugin: {file} registers nothing; decorate a class with @register_network, @register_loss, "
            "@register_transform, @register_optimizer, @register_schedule or @register_callback of medseg.plugins"
        )
    return found


def forget_plugins(file: Path | None = None) -> None:
    """Forgets what a plugin, or all of them, registered."""
    for key in [key for key, each in _registered.items() if file in (None, each.file)]:
        del _registered[key]


def loaded_plugins() -> list[Path]:
    """Returns the files of which something is registered: what other processes have to be given."""
    return list(dict.fromkeys(each.file for each in _registered.values()))


def needed_plugins(kind: Kind, names: Iterable[str]) -> list[Path] | None:
    """Returns the plugins that other processes have to load, so that they know some parts by their names.

    Args:
        kind: What parts these are.
        names: Those that no plugin registered need none.

    Returns:
        Their files; None where a part was registered by a script or in a session, which no other process can load.
    """
    chosen = set(names)
    files = {each.file for each in registered(kind) if each.name in chosen}
    return sorted(files) if all(str(file) in plugin_files for file in files) else None


def plugin_of(kind: Kind, name: str, is_taken: bool = False) -> Registered | None:
    """Returns what was registered by this name; None where nothing was.

    Args:
        kind: What part it is.
        name: By which it is chosen.
        is_taken: Whether medseg, MONAI or PyTorch has a part of this name.

    Raises:
        PluginError: A plugin registered a name that is taken.
    """
    plugin = _registered.get((kind, name))
    if plugin is not None and is_taken:
        raise PluginError(
            f"{plugin.file}: registers the {kind} '{name}', which is medseg's own, or MONAI's or PyTorch's; take "
            "another name"
        )
    return plugin


def registered(kind: Kind) -> list[Registered]:
    """Returns all of a kind, in the order in which they were registered."""
    return [each for each in _registered.values() if each.kind == kind]


def registered_callbacks(specs: Iterable[Mapping[str, Any]] = ()) -> list[Any]:
    """Returns new callbacks for one run: one of each that plugins registered, and of those with arguments one for each.

    Args:
        specs: ``training.callbacks``, the arguments of some of them: ``{"name": "told", "every": 2}``.

    Raises:
        PluginError: One of them cannot be made.
    """
    arguments: dict[str, list[dict[str, Any]]] = {}
    for spec in specs:
        arguments.setdefault(spec["name"], []).append({key: value for key, value in spec.items() if key != "name"})
    with errors_of_plugins():
        return [each.build(**own) for each in registered("callback") for own in arguments.get(each.name, [{}])]
