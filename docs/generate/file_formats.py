"""reference/file-formats.md, and the JSON Schema of each JSON file that medseg writes."""

import inspect
import json
import re
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, NamedTuple

import medseg
from medseg.records import Record


class Format(NamedTuple):
    """A JSON file: its name, where it lies, and the name of the record that reads and writes it."""

    file: str
    where: str
    record: str
    schema: str = ""  # the name of its schema, where that is not the file's

    @property
    def name(self) -> str:
        """Returns the name of its section and schema; two files may share one name."""
        if self.schema:
            return self.schema
        shared = sum(each.file == self.file and not each.schema for each in FORMATS) > 1
        return self.record if shared else self.file.removesuffix(".json")


FORMATS = (
    Format("dataset.json", "a prepared dataset", "DatasetRecord"),
    Format("fingerprint.json", "a prepared dataset", "Fingerprint"),
    Format("plan.json", "a prepared dataset", "Plans"),
    Format("run.json", "a run", "RunRecord"),
    Format("model.json", "a model", "ModelRecord"),
    Format("recipe.json", "a model of several members", "Recipe"),
    Format("network.json", "a network in int8, in model/int8", "QuantisedRecord"),
    Format("model.json", "a model as ONNX", "OnnxModelRecord", "onnx-model"),
    Format("names.json", "a folder with a mask a structure", "NamesRecord"),
    Format("predictions.json", "a folder of masks", "Predictions"),
    Format("plan.json", ".blocks/<case_id>/ of masks, until all blocks are done", "BlockPlan", "blocks-plan"),
    Format("<number>.json", ".blocks/<case_id>/blocks/, for each block that is done", "BlockRecord", "block"),
    Format("<case_id>.json", "statistics/ of a folder of masks", "CaseStatistics", "statistics"),
    Format("metrics.json", "an evaluation", "MetricsRecord"),
    Format("clicks.json", "an evaluation by clicks", "ClicksRecord"),
    Format("comparison.json", "an evaluation of several predictions", "MethodComparisonRecord"),
    Format("comparison.json", "a comparison of networks", "NetworkComparisonRecord"),
    Format("annotations.json", "annotations/ of a folder of images", "AnnotatedLabels"),
    Format("held_back.json", "annotations/, where `medseg annotate` was used", "HeldBackRecord"),
    Format("learning_curve.json", "annotations/runs/, where networks were trained on the page", "LearningCurve"),
    Format("dataset.json", "beside a cases.csv that a round of `medseg annotate` wrote", "TableLabels"),
    Format("<case_id>.json", "annotations/final/, beside a label map", "Annotation", "annotation"),
    Format("tiles.json", "tiles of large pictures", "TilesRecord"),
    Format("key.json", "what `medseg preprocess --deidentify` wrote, kept apart", "DeidentificationKey"),
    Format("inspect.json", "what `medseg inspect --json` prints", "InspectionRecord"),
    Format("forecast.json", "what `medseg train --dry-run --json` prints", "Forecast"),
    Format("preprocess.json", "what `medseg preprocess --json` prints", "PreprocessRecord"),
    Format("network.json", "an entry of what `medseg networks --json` prints", "NetworkInfo", "networks"),
    Format("model-card.json", "what `medseg models show MODEL --json` prints", "ModelCard"),
    Format("models.json", "an entry of what `medseg models --json` prints", "FoundModel"),
    Format("doctor.json", "what `medseg doctor --json` prints", "Diagnosis"),
)

INTRODUCTION = """# File formats

What each folder holds is drawn in [Architecture](../architecture.md#on-disk). Each JSON file has one record, which
reads it, and whose JSON Schema stands here. A reader refuses keys that it doesn't know.

| file | of | schema | what it holds |
| --- | --- | --- | --- |
"""


@cache
def records() -> dict[str, type[Record]]:
    """Returns all records of medseg by their names, wherever they are defined."""
    for module in walk_packages(medseg.__path__, "medseg."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found: dict[str, type[Record]] = {}
    waiting: list[type[Record]] = [Record]
    while waiting:
        below = waiting.pop().__subclasses__()
        found |= {each.__name__: each for each in below if each.__module__.startswith("medseg.")}
        waiting += below
    return found


def record_of(each: Format) -> type[Record]:
    """Returns the pydantic class."""
    return records()[each.record]


def files() -> dict[str, str]:
    """Returns page and schemas by their paths on the site."""
    rows, sections, found = [], [], {}
    for each in FORMATS:
        record = record_of(each)
        schema = record.model_json_schema()
        name = f"{each.name}.schema.json"
        found[f"reference/schemas/{name}"] = json.dumps(schema, indent=1, ensure_ascii=False)
        first = (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        anchor = re.sub(r"[-\s]+", "-", re.sub(r"[.`]", "", _title(each))).lower()  # as Markdown makes it
        rows.append(f"| [{each.file}](#{anchor}) | {each.where} | [{name}](schemas/{name}) | {first} |")
        sections.append(_section(each, schema))
    return {"reference/file-formats.md": INTRODUCTION + "\n".join([*rows, "", *sections]), **found}


def _title(each: Format) -> str:
    return each.file if each.name == each.file.removesuffix(".json") else f"{each.file} of {each.where}"


def _section(each: Format, schema: dict[str, Any]) -> str:
    rows = ["| key | type | needed |", "| --- | --- | --- |"]
    for key, value in schema.get("properties", {}).items():
        rows.append(f"| `{key}` | {_type(value)} | {'yes' if key in schema.get('required', ()) else ''} |")
    return "\n".join([f"## {_title(each)}", "", *rows, ""])


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
