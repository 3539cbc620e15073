"""A bundle's configuration as data: constants, references and a closed list of expressions. Nothing of it is run.

MONAI builds objects of it, and evaluates its expressions as Python. Here a component stays what it is in the file: the
name of its class, and arguments, which are resolved when somebody asks for them. What nobody asks for, such as where
the images of the training lie, may hold anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import ConfigError, ModelError, printable
from medseg.files import read_text
from medseg.interop.bundle.expressions import REFERENCE, evaluated
from medseg.records import LARGEST_NODES, LARGEST_YAML, parse_yaml, read_object, read_yaml, shown_value

ADVICE = "see docs/how-to/monai-bundle.md for what medseg takes of a bundle"
SEPARATOR = "::"
DEEPEST = 50  # references that lead to references, and values in values
# Of a component, what is not an argument of its class.
MARKS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")


def path_of(name: str) -> str:
    """Returns the path of an entry with one kind of separator: ``a::b`` for ``a#b``."""
    return name.replace("#", SEPARATOR)


class BundleConfig:
    """A file of a bundle's configs/ folder, in JSON or YAML.

    Entries have paths: ``preprocessing::transforms::3``.

    Args:
        file: The file.
        content: What it holds, changed by the user's own entries.
    """

    def __init__(self, file: Path, content: dict[str, Any]) -> None:
        self.file = file
        self._content = content
        self._values: dict[str, tuple[Any, int]] = {}  # with how many values each holds
        self._open: list[str] = []  # paths that are being resolved
        self._counts = [0]  # values so far, in each of them

    @classmethod
    def read(cls, file: Path, entries: tuple[str, ...] = ()) -> "BundleConfig":
        """Returns the content of a file.

        Args:
            file: JSON or YAML.
            entries: "PATH=VALUE": entries that the user changes; the value is YAML.

        Raises:
            ModelError: It is neither, or holds no object.
            ConfigError: There is no entry of such a path.
        """
        if file.suffix == ".json":
            content = read_object(file, ADVICE, ModelError)
        else:
            content = read_yaml(file, ADVICE, ModelError)
            if not isinstance(content, dict):
                raise ModelError(f"{file}: holds {shown_value(content)} where a mapping should be; {ADVICE}")
        for entry in entries:
            _set(content, entry, file)
        return cls(file, content)

    def __contains__(self, path: str) -> bool:
        return self._found(path)[0]

    def raw(self, path: str) -> Any:
        """Returns what the file holds at a path, as it is.

        Raises:
            ModelError: There is no such entry.
        """
        found, value = self._found(path)
        if not found:
            raise ModelError(f"{self.file}: has no '{shown_value(path, bare=True)}'; {ADVICE}")
        return value

    def value(self, path: str) -> Any:
        """Returns the value of an entry, references resolved and expressions computed.

        Returns:
            Constants, lists and mappings of them; a ``Component`` for what names a class.

        Raises:
            ModelError: There is no such entry, or it holds something that is not on the list.
        """
        if path not in self._values:
            if path in self._open:
                raise self.error(path, "refers to itself")
            if len(self._open) > DEEPEST:
                raise self.error(path, f"leads through more than {DEEPEST} references and values")
            self._open.append(path)
            self._counts.append(1)
            try:
                value = self._resolved(path, self.raw(path))
            finally:
                self._open.pop()
                count = self._counts.pop()
            self._values[path] = value, count
        value, count = self._values[path]
        self._counts[-1] += count
        if self._counts[-1] > LARGEST_NODES:
            raise self.error(path, f"stands for more than {LARGEST_NODES:,} values")
        return value

    def component(self, path: str, what: str) -> "Component":
        """Returns the component at a path.

        Args:
            path: Of the entry.
            what: What it should be, for the error.

        Raises:
            ModelError: There is none.
        """
        value = self.value(path)
        if not isinstance(value, Component):
            raise self.error(path, f"is {shown_value(value)} where {what} should be")
        return value

    def error(self, path: str, what: str) -> ModelError:
        """Returns the error of an entry that cannot be taken; it names file, line and entry.

        Args:
            path: Of the entry.
            what: Says what is wrong with it.
        """
        line = self._line(path)
        where = f"{self.file}, line {line}" if line else str(self.file)
        return ModelError(f"{where}: {path.replace(SEPARATOR, '#')} {what}; {ADVICE}")

    def _found(self, path: str) -> tuple[bool, Any]:
        value: Any = self._content
        for key in path.split(SEPARATOR):
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and len(key) < 9 and int(key) < len(value):
                value = value[int(key)]
            else:
                return False, None
        return True, value

    def _resolved(self, path: str, content: Any) -> Any:
        if isinstance(content, dict) and "_target_" in content:
            return self._component(path, content)
        if isinstance(content, dict):
            return {key: self.value(f"{path}{SEPARATOR}{key}") for key in content}
        if isinstance(content, list):
            return [self.value(f"{path}{SEPARATOR}{i}") for i in range(len(content))]
        if not isinstance(content, str):
            return content
        if content.startswith("%"):
            raise self.error(path, f"is {shown_value(content)}, a part of another file, which medseg does not follow")
        if content.startswith("$"):
            try:
                return evaluated(content[1:], lambda reference: self._referred(path, reference))
            except ValueError as error:
                raise self.error(path, f"is {shown_value(content)}: {error}") from error
        if REFERENCE.fullmatch(path_of(content)):
            return self._referred(path, path_of(content)[1:])
        return content

    def _referred(self, path: str, reference: str) -> Any:
        """Returns the value of a reference; of ``::a``, the entry ``a`` beside it, of ``::::a``, one level up."""
        name = reference.lstrip(":")
        ups = (len(reference) - len(name)) // len(SEPARATOR)
        if ups:
            name = SEPARATOR.join([*path.split(SEPARATOR)[:-ups], name])
        if name not in self:
            raise self.error(path, f"refers to '@{shown_value(reference, bare=True)}', which is not there")
        return self.value(name)

    def _component(self, path: str, content: dict[str, Any]) -> "Component":
        target = content["_target_"]
        if not isinstance(target, str) or target.startswith(("$", "@", "%")):
            raise self.error(path, f"names its class by {shown_value(target)}, not by its name")
        if content.get("_mode_", "default") != "default":
            raise self.error(path, f"has the mode {shown_value(content['_mode_'])}, which would run code")
        return Component(self, path, target, frozenset(content) - {*MARKS})

    def _line(self, path: str) -> int | None:
        """Returns the line of an entry, from 1; None where it cannot be told. JSON is YAML, but for its tabs."""
        try:
            node: Any = yaml.compose(read_text(self.file, LARGEST_YAML).replace("\t", " "), yaml.SafeLoader)
            for key in path.split(SEPARATOR):
                if isinstance(node, yaml.MappingNode):
                    node = next(value for name, value in node.value if name.value == key)
                else:
                    node = node.value[int(key)]
            return int(node.start_mark.line) + 1
        except Exception:  # it is only a help beside the entry's path
            return None


@dataclass(frozen=True)
class Component:
    """What would be an object: the name of a class, and its arguments.

    Attributes:
        configuration: Where it stands.
        path: Of the entry.
        target: The class, as the file names it.
        given: The names of its arguments.
    """

    configuration: BundleConfig
    path: str
    target: str
    given: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the class, without its package where that is MONAI's."""
        package, _, name = self.target.rpartition(".")
        return name if package in ("", "monai") or package.startswith("monai.") else self.target

    @property
    def is_disabled(self) -> bool:
        """Whether the bundle leaves the component out (``_disabled_``)."""
        switch = f"{self.path}{SEPARATOR}_disabled_"
        return switch in self.configuration and bool(self.configuration.value(switch))

    def argument(self, name: str, default: Any = None) -> Any:
        """Returns the value of an argument, or ``default`` where it is not given.

        Raises:
            ModelError: It holds something that is not on the list.
        """
        return self.configuration.value(self._path(name)) if name in self.given else default

    def raw_argument(self, name: str) -> Any:
        """Returns an argument as it stands in the file."""
        return self.configuration.raw(self._path(name))

    def components(self, name: str) -> Iterator["Component"]:
        """Yields the components that an argument lists, without those that are disabled.

        Raises:
            ModelError: It lists something else.
        """
        values = self.argument(name, [])
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, Component):
                raise self.error(f"is no list of components: it holds {shown_value(value)}", name)
            if not value.is_disabled:
                yield value

    def only(self, taken: dict[str, Any], ignored: tuple[str, ...] = ()) -> None:
        """Checks that the arguments have values that medseg can follow.

        Args:
            taken: By name, the only value that is taken; ``...`` for any.
            ignored: Arguments that change nothing of the result.

        Raises:
            ModelError: An argument is another one, or has another value.
        """
        for name in sorted(self.given - {*ignored}):
            if name not in taken:
                raise self.error(f"of {self.name} is an argument that medseg does not take", name)
            if taken[name] is ...:
                continue
            value = self.argument(name)
            if value != taken[name]:
                raise self.error(f"of {self.name} is {shown_value(value)}; medseg takes {taken[name]!r} only", name)

    def error(self, what: str, argument: str | None = None) -> ModelError:
        """Returns the error of a component, or of one of its arguments, that cannot be taken."""
        is_given = argument is not None and argument in self.given
        return self.configuration.error(self._path(argument) if is_given and argument else self.path, what)

    def _path(self, argument: str) -> str:
        return f"{self.path}{SEPARATOR}{argument}"


def _set(content: dict[str, Any], entry: str, file: Path) -> None:
    """Changes an entry of ``content`` by "PATH=VALUE"."""
    path, sign, text = entry.partition("=")
    *parents, last = path_of(path).split(SEPARATOR)
    place: Any = content
    for key in parents:
        place = place.get(key) if isinstance(place, dict) else None
    if not sign or not isinstance(place, dict) or last not in place:
        raise ConfigError(f"--set {printable(entry)}: {file} has no such entry; write ENTRY::ENTRY=VALUE")
    try:
        place[last] = parse_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--set {printable(entry)}: is no value") from error
