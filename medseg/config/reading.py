"""Settings from YAML files and the command line; what cannot be is refused with the nearest right key or choice."""

import contextlib
import difflib
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from medseg.config.sections import Config
from medseg.errors import ConfigError, did_you_mean, reason_of
from medseg.records import parse_yaml, read_yaml, shown_value, with_new_names

# As version 0.1 spelt them: runs, and the users' own files, still have these.
OLD_NAMES = {"preprocessing": {"normalization": "normalisation"}, "training": {"optimizer": "optimiser"}}

MOST_PARTS = 8  # of a key: section.key, and more where the value is a mapping


def load(files: list[Path] | None = None, overrides: list[str] | None = None) -> Config:
    """Returns the settings: the defaults, changed by YAML files and then by overrides.

    Args:
        files: YAML files of sections with keys below them; a later one wins.
        overrides: ``"section.key=value"``, where the value is YAML; a later one wins.

    Raises:
        ConfigError: There is no such key, or it cannot have this value. The message names the file or the override, the
            key, and the nearest right one.

    Example:
        >>> load(overrides=["training.max_time=1h30m"]).training.max_time
        5400.0
    """
    content: dict[str, Any] = {}
    for file in files or []:
        _merge(content, _read_yaml(file), str(file))
    for override in overrides or []:
        _merge(content, _parse_override(override), shown_value(override, bare=True))
    return config_of(content, "the config")


def _read_yaml(file: Path) -> dict[str, Any]:
    content = read_yaml(file, "give a YAML file with --config", ConfigError)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: holds no sections; it should look like 'training:' with keys below it")
    return content


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"{override}: write it as section.key=value, as in training.seed=1")
    parts = key.strip().split(".")
    if len(parts) > MOST_PARTS:
        raise ConfigError(f"{parts[0]}.{parts[1]}…: there is no setting of {len(parts)} parts")
    try:
        value = parse_yaml(text)
    except Exception as error:  # whatever its constructors raise, as for 2024-13-45
        raise ConfigError(f"{key}: the value is not YAML ({reason_of(error)})") from error
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text, since it wants a dot; people write it as a number.
        with contextlib.suppress(ValueError):
            value = float(value)
    nested: Any = value
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def _merge(content: dict[str, Any], change: dict[str, Any], origin: str) -> None:
    """Merges ``change`` into ``content`` after it was checked alone, so that the error names its origin."""
    change = {section: with_new_names(keys, **OLD_NAMES.get(section, {})) for section, keys in change.items()}
    config_of(change, origin)
    for section, keys in change.items():
        content.setdefault(section, {}).update(keys)


def config_of(content: dict[str, Any], origin: str) -> Config:
    """Returns checked settings; raises ``ConfigError``, which says where they come from, for what cannot be so."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(error)}") from error
    except (OverflowError, RecursionError) as error:
        raise ConfigError(f"{origin}: holds a value that cannot be used ({reason_of(error)})") from error


def _explain(error: ValidationError) -> str:
    """Returns the first thing that is wrong, with the nearest right key or choice."""
    first = error.errors()[0]
    path = [shown_value(part, bare=True) for part in first["loc"]]
    dotted = ".".join(path)
    if first["type"] == "extra_forbidden" and len(path) == 1:
        homes = [key for key in known_keys() if key.endswith(f".{dotted}")]
        hint = f"; did you mean '{homes[0]}'?" if homes else did_you_mean(dotted, Config.model_fields)
        return f"there is no section '{dotted}'{hint}"
    if first["type"] == "extra_forbidden":
        return f"there is no setting '{dotted}'{_nearest_key(path[0], path[1])}"
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"'{dotted}' is a section; set one of its keys: {', '.join(_keys_below(dotted))}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        return f"{dotted} cannot be '{first['input']}'{did_you_mean(first['input'], _choices(path))}"
    if first["type"] == "missing":
        return f"{'.'.join(path[:2])} cannot be {shown_value(first['input'])}: it has too few numbers"
    reason = re.sub(r"\b(a valid )?tuple\b", "a list", first["msg"].removeprefix("Value error, "))
    return f"{dotted} cannot be {shown_value(first['input'])}: {reason[0].lower()}{reason[1:]}"


def _nearest_key(section: str, key: str) -> str:
    """Returns the key of this name in another section, the one that it abbreviates (``lr``), or one that is spelt
    alike."""
    names = {known.partition(".")[2]: known for known in _keys_below(section)}
    elsewhere = [known for known in known_keys() if known.endswith(f".{key}")]
    abbreviated = [known for name, known in names.items() if "".join(w[0] for w in name.split("_")) == key]
    alike = [names[name] for name in difflib.get_close_matches(key, names, n=1, cutoff=0.6)]
    nearest = [*elsewhere, *abbreviated, *alike]
    return f"; did you mean '{nearest[0]}'?" if nearest else f"; known are: {', '.join(names.values())}"


def known_keys() -> list[str]:
    """Returns all settings as ``section.key``."""
    sections: dict[str, Any] = {name: field.annotation for name, field in Config.model_fields.items()}
    return [f"{name}.{key}" for name, section in sections.items() for key in section.model_fields]


def _keys_below(section: str) -> list[str]:
    return [key for key in known_keys() if key.startswith(f"{section}.")]


def _choices(path: list[str]) -> list[str]:
    section = Config.model_fields[path[0]].annotation
    annotation = section.model_fields[path[1]].annotation  # type: ignore[union-attr]
    literal = annotation if get_origin(annotation) is Literal else get_args(annotation)[0]
    return [str(choice) for choice in get_args(literal)]
