"""reference/settings.md and its JSON Schema, from the fields of ``Config`` and the comments beside them."""

import inspect
import io
import json
import re
import tokenize
from typing import Any

from pydantic import BaseModel

from medseg.config import Config

INTRODUCTION = """# Settings

Settings come from their defaults, then from each YAML file (`--config`), then from each `--set section.key=value`. A
YAML file holds only what differs from the defaults. A wrong key or value is refused with the nearest right one.
[settings.schema.json](schemas/settings.schema.json) is the JSON Schema, which editors check YAML files against.
"""
PATH = "reference/settings.md"
SCHEMA = "reference/schemas/settings.schema.json"


def files() -> dict[str, str]:
    """Returns page and schema by their paths on the site."""
    sections = [_section(name, field.annotation) for name, field in Config.model_fields.items()]
    schema = json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False)
    return {PATH: "\n".join([INTRODUCTION, *sections]), SCHEMA: schema}


def _section(name: str, section: Any) -> str:
    properties = section.model_json_schema()
    notes = comments(section)
    rows = [
        f"| `{name}.{key}` | {_cell(_values(properties['properties'][key], properties))} | "
        f"`{_yaml(field.get_default(call_default_factory=True))}` | {_cell(field.description or notes.get(key, ''))} |"
        for key, field in section.model_fields.items()
    ]
    head = ["| setting | values | default | |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {name}", "", inspect.getdoc(section) or "", "", *head, *rows, ""])


def comments(section: type[BaseModel]) -> dict[str, str]:
    """Returns what the comments before and beside each field say."""
    lines = inspect.getsource(section).splitlines()
    found: dict[str, str] = {}
    above: list[str] = []
    for line in lines:
        note = _comment(line)
        field = re.match(r"    (\w+):", line)
        if field:
            found[field[1]] = " ".join([*above, *([note] if note else [])])
            above = []
        else:
            above = [*above, note] if line.strip().startswith("#") else []
    return found


def _comment(line: str) -> str:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line.strip()).readline))
    except tokenize.TokenError:  # the line goes on in the next one
        return line.partition("  # ")[2]
    return next((token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT), "")


def _values(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        return _values(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return " or ".join(_values(each, whole) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("prefixItems") or []
        inner = items[0] if items else schema.get("items", {})
        return f"{len(items) or 'a list'} of: {_values(inner, whole)}"
    names = {"integer": "whole number", "boolean": "true, false", "string": "text", "object": "mapping", "null": "null"}
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema and abs(schema[key]) < 2**53
    ]
    return " ".join([names.get(kind, kind), *limits])


def _yaml(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
