"""What the site's reference is made of: commands, settings, and schemas of the files."""

import json
import sys
from functools import cache
from pathlib import Path

import jsonschema
import pytest

import medseg
from medseg.cli.help import command_name
from medseg.cli.main import COMMANDS
from medseg.config import Config, known_keys
from medseg.records import Record

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "generate"))

import command_line
import file_formats
import python_api
import settings

schemas = cache(file_formats.files)


def test_each_command_has_a_section_with_its_options() -> None:
    text = command_line.files()["reference/command-line.md"]
    for function in COMMANDS:
        assert f"\n## medseg {command_name(function)}\n" in text
    assert "`--max-memory`" in text
    assert r"'\*/CT\_image.nii.gz'" in text


def test_each_setting_has_a_row_with_its_default() -> None:
    text = settings.files()[settings.PATH]
    assert [key for key in known_keys() if f"| `{key}` |" not in text] == []
    assert "| `training.momentum` | number ≥ 0 < 1 | `0.99` |" in text


@pytest.mark.parametrize("each", file_formats.FORMATS, ids=lambda each: each.name)
def test_each_json_file_has_a_record_and_a_schema(each: file_formats.Format) -> None:
    assert issubclass(file_formats.record_of(each), Record)
    schema = json.loads(schemas()[f"reference/schemas/{each.name}.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schemas_take_what_is_written() -> None:
    found = {**settings.files(), **schemas()}
    written = json.loads(medseg.doctor(self_test=False).model_dump_json())
    jsonschema.validate(written, json.loads(found["reference/schemas/doctor.schema.json"]))
    jsonschema.validate(Config().model_dump(mode="json"), json.loads(found[settings.SCHEMA]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"training": {"lr": 1}}, json.loads(found[settings.SCHEMA]))


def test_the_facade_is_there_as_a_whole() -> None:
    (page, *_) = python_api.pages()
    assert [name for name in medseg.__all__ if f'"medseg.{name}"' not in page.text] == []


@pytest.mark.parametrize("package", python_api.PACKAGES)
def test_each_public_name_is_in_one_group(package: str) -> None:
    names = [name for group in python_api.GROUPS[package].values() for name in group]
    assert sorted(names) == sorted(python_api.public_names(package))


def test_each_name_of_the_facade_is_in_one_group() -> None:
    assert sorted(name for group in python_api.FACADE_GROUPS.values() for name in group) == sorted(medseg._HOMES)
