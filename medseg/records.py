"""JSON and YAML that medseg reads, whoever wrote them: plain values of bounded size, or one clear error.

What medseg wrote itself is read as a ``Record``, which refuses what it doesn't know, before any of it is used.
"""

import json
import math
import reprlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from medseg.errors import MedsegError, SourceError, reading
from medseg.files import read_text, write_json

# Larger than anything that these files could mean; a value may not make more of them than they hold.
LARGEST_JSON = 2**29  # bytes
LARGEST_YAML = 2**20
LARGEST_NODES = 100_000  # of YAML, with all that its aliases stand for
LONGEST_NUMBER = 30  # digits

R = TypeVar("R", bound=BaseModel)


class Record(BaseModel):
    """Of a file that medseg writes and reads: no other keys, no NaN and no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """Returns the record as JSON has it."""
        return self.model_dump(mode="json")


def with_new_names(content: object, **old: str) -> object:
    """Returns ``content`` of a record or a section of settings as version 0.1 spelt it, with today's names:
    ``new="old"``.

    Where it has both, the old one stays, and is refused.
    """
    if not isinstance(content, dict):
        return content
    new = {before: after for after, before in old.items() if after not in content}
    return {new.get(key, key): value for key, value in content.items()}


# Where array axes point: three letters, one of each pair.
ORIENTATION = "^(?:[RL](?:[AP][SI]|[SI][AP])|[AP](?:[RL][SI]|[SI][RL])|[SI](?:[RL][AP]|[AP][RL]))$"


def inside(path: str) -> str:
    """Returns the path, where it stays below the folder that it is relative to.

    Raises:
        ValueError: It leads out of the folder.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or "\0" in path or ".." in parts or Path(path).is_absolute():
        raise ValueError("the path should stay inside of its folder")
    return path


PathInside = Annotated[str, AfterValidator(inside)]


def read_record(
    path: Path,
    record: type[R],
    advice: str,
    raises: type[MedsegError] = SourceError,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda content: content,
) -> R:
    """Returns the JSON file at ``path`` as a ``record``.

    Args:
        path: The file.
        record: The class of the record.
        advice: What to do about a file that is wrong.
        raises: The class of the error.
        changed: Changes what an older version wrote.

    Raises:
        MedsegError: The file is wrong. The error names it and the first entry that is wrong.
    """
    return validated(changed(read_object(path, advice, raises)), record, path, advice, raises)


def write_record(path: Path, record: BaseModel) -> Path:
    """Writes a record as a JSON file, which appears whole, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_json(path, record.model_dump(mode="json"))


def validated(content: object, record: type[R], path: Path, advice: str, raises: type[MedsegError] = SourceError) -> R:
    """Returns ``content`` of the file at ``path`` as a ``record``; raises as ``read_record`` does."""
    with reading(path, record.__name__, advice, raises):
        try:
            return record.model_validate(content)
        except ValidationError as error:
            raise raises(f"{path}: {explained(error)}; {advice}") from error


def explained(error: ValidationError) -> str:
    """Returns the first entry that is wrong, and why: ``'plan.dims' cannot be 4: input should be 2 or 3``."""
    first = error.errors(include_url=False)[0]
    where = ".".join(shown_value(part, bare=True) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if first["type"] == "missing":
        return f"'{where}' is missing"
    if first["type"] == "extra_forbidden":
        return f"'{where}' is not known"
    if first["type"] == "value_error":
        return f"'{where}': {reason}" if where else reason
    return f"'{where}' cannot be {shown_value(first['input'])}: {reason}"


def shown_value(value: object, bare: bool = False) -> str:
    """Returns a value as a message shows it: short, however large it is."""
    if isinstance(value, int) and abs(value) >= 10**LONGEST_NUMBER:
        return "a huge number"
    return str(value)[:80] if bare else _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def read_object(path: Path, advice: str = "copy it again", raises: type[MedsegError] = SourceError) -> dict[str, Any]:
    """Returns the content of a file of one JSON object; raises as ``read_json`` does."""
    content = read_json(path, advice, raises)
    if not isinstance(content, dict):
        raise raises(f"{path}: holds {shown_value(content)} where a JSON object {{…}} should be; {advice}")
    return content


def read_json(path: Path, advice: str = "copy it again", raises: type[MedsegError] = SourceError) -> Any:
    """Returns the content of a JSON file in UTF-8 or UTF-16. NaN and infinity, which JSON has not, are None: not
    defined.

    Raises:
        MedsegError: It is no JSON, or a key occurs twice in an object. The class is ``raises``.
    """
    with reading(path, "JSON", advice, raises):
        return parse_json(read_text(path, LARGEST_JSON))


def parse_json(text: str) -> Any:
    """Returns the content of a JSON text.

    Raises:
        ValueError: It is no JSON, or a key occurs twice.
        RecursionError: It is nested too deep.
    """
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=_finite,
        parse_constant=lambda _: None,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{shown_value(twice, bare=True)}' occurs twice")
    return content


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def read_yaml(path: Path, advice: str, raises: type[MedsegError] = SourceError) -> Any:
    """Returns the content of a YAML file; None where it is empty.

    Raises:
        MedsegError: It is no YAML; the class is ``raises``.
    """
    with reading(path, "YAML", advice, raises):
        return parse_yaml(read_text(path, LARGEST_YAML))


def parse_yaml(text: str) -> Any:
    """Returns the content of a YAML text.

    Raises:
        ValueError: A key occurs twice, a value holds itself, or aliases stand for more than anyone writes.
        RecursionError: It is nested too deep.
        yaml.YAMLError: It is no YAML.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:  # which says in several lines what and where
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Returns the number of nodes below one, with those of aliases as often as they are named.

    Args:
        node: A node of YAML.
        known: The numbers by node; None while below it.
    """
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise ValueError("a value holds itself by an alias")
        return count
    known[id(node)] = None
    count = 1
    if isinstance(node, yaml.ScalarNode):
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value)} digits")
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key '{shown_value(twice, bare=True)}' occurs twice")
        count += sum(_count(part, known) for pair in node.value for part in pair)
    else:
        count += sum(_count(part, known) for part in node.value)
    if count > LARGEST_NODES:
        raise ValueError(f"more than {LARGEST_NODES:,} values, with those that aliases repeat")
    known[id(node)] = count
    return count
