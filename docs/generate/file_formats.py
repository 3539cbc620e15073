"""reference/file-formats.md, and the JSON Schema of each JSON file that medseg writes."""

import inspect
import json
from importlib import import_module
from typing import Any, NamedTuple


class Format(NamedTuple):
    """A JSON file: its name, where it lies, and the record that reads and writes it."""

    file: str
    where: str
    record: str


FORMATS = (
    Format("dataset.json", "a prepared dataset", "medseg.dataset.store:DatasetRecord"),
    Format("fingerprint.json", "a prepared dataset", "medseg.plan:Fingerprint"),
    Format("plan.json", "a prepared dataset", "medseg.plan:Plans"),
    Format("run.json", "a run", "medseg.training.run:RunRecord"),
    Format("model.json", "a model", "medseg.inferers.model:ModelRecord"),
    Format("predictions.json", "a folder of masks", "medseg.evaluation.predictions:Predictions"),
    Format("metrics.json", "an evaluation", "medseg.evaluation.compared:MetricsRecord"),
    Format("doctor.json", "what `medseg doctor --json` prints", "medseg.workflows.doctor:Diagnosis"),
)

INTRODUCTION = """# File formats

What each folder holds is drawn in [Architecture](../architecture.md#on-disk). Each JSON file has one record, which
reads it, and whose JSON Schema stands here. A reader refuses keys that it doesn't know.

| file | of | schema | what it holds |
| --- | --- | --- | --- |
"""


def record_of(each: Format) -> Any:
    """Returns the pydantic class."""
    module, _, name = each.record.partition(":")
    return getattr(import_module(module), name)


def files() -> dict[str, str]:
    """Returns page and schemas by their paths on the site."""
    rows, sections, found = [], [], {}
    for each in FORMATS:
        record = record_of(each)
        schema = record.model_json_schema()
        name = each.file.replace(".json", ".schema.json")
        found[f"reference/schemas/{name}"] = json.dumps(schema, indent=1, ensure_ascii=False)
        first = (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        anchor = each.file.replace(".", "")
        rows.append(f"| [{each.file}](#{anchor}) | {each.where} | [{name}](schemas/{name}) | {first} |")
        sections.append(_section(each, schema))
    return {"reference/file-formats.md": INTRODUCTION + "\n".join([*rows, "", *sections]), **found}


def _section(each: Format, schema: dict[str, Any]) -> str:
    rows = ["| key | type | needed |", "| --- | --- | --- |"]
    for key, value in schema["properties"].items():
        rows.append(f"| `{key}` | {_type(value)} | {'yes' if key in schema.get('required', ()) else ''} |")
    return "\n".join([f"## {each.file}", "", *rows, ""])


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(items) if isinstance(items, dict) else 'anything'}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"{_type(schema['additionalProperties'])} by name"
    return str(kind)
