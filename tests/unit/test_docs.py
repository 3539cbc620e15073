"""What the documentation tells users to type is accepted: commands parse, settings load, links lead somewhere."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from doc_pages import blocks

from medseg.cli.main import app
from medseg.cluster.job_settings import JobSettings
from medseg.config import Config, known_keys, load
from medseg.interop.recipe_file import RecipeFile
from medseg.transforms.registry import monai_transform

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "data" / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PACKAGE = REPOSITORY / "medseg"
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
HOW_TO = sorted((REPOSITORY / "docs" / "how-to").glob("*.md"))
# Pages that the site's build makes, and checks links to: docs/generate/.
GENERATED = re.compile(r"(?:command-line|settings|file-formats|python/\w+)\.md$")
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("medseg ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_commands_have_the_options_they_are_given(page: Path) -> None:
    group = typer.main.get_command(app)
    for arguments in (each for block in blocks(page.read_text(encoding="utf-8")) for each in commands(block)):
        command = group.commands[arguments[1]]  # type: ignore[attr-defined]
        context = command.make_context(arguments[1], arguments[2:])  # exits on what it doesn't know
        settings = context.params.get("settings") or []
        assert isinstance(load(overrides=list(settings)), Config)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists() or GENERATED.search(link), link


def test_yaml_of_the_how_to_and_of_the_configs_loads(tmp_path: Path) -> None:
    texts = [
        *(text for page in HOW_TO for text in blocks(page.read_text(encoding="utf-8"), "yaml")),
        *(path.read_text() for path in CONFIGS),
    ]
    assert len(texts) > len(CONFIGS)
    recipes = [text for text in texts if "members:" in text]
    assert recipes
    for text in recipes:
        RecipeFile.model_validate(yaml.safe_load(text))
    of_dicom = [text for text in texts if "ae_title:" in text]  # tests/unit/pacs/test_settings.py loads them
    assert of_dicom
    jobs = [text for text in texts if "partition:" in text]
    for text in jobs:
        JobSettings.model_validate(yaml.safe_load(text))
    for text in (text for text in texts if text not in (*recipes, *of_dicom, *jobs)):
        (tmp_path / "settings.yaml").write_text(text)
        config = load([tmp_path / "settings.yaml"])
        assert config.model_dump(exclude_unset=True).keys() == yaml.safe_load(text).keys()
        for spec in [*config.preprocessing.transforms, *config.augmentation.transforms]:
            monai_transform(spec)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_settings_that_are_named_exist(page: Path) -> None:
    sections = "|".join(Config.model_fields)
    for key in re.findall(rf"`((?:{sections})\.\w+)(?:=[^`]*)?`", page.read_text(encoding="utf-8")):
        assert key in known_keys() or key.endswith("_"), key


def test_files_that_the_architecture_names_exist() -> None:
    """With the names in them: `transforms/prepared.py: prepare`."""
    paths = re.findall(r"`((?:[\w*]+/)*[\w*]+\.(?:py|csv|html|js|css|j2))(?::\s*([\w.]+))?`", ARCHITECTURE)
    assert len(paths) > 150
    for path, name in paths:
        found = [
            each
            for folder in (PACKAGE, PACKAGE / "viewer", REPOSITORY)
            for each in folder.glob(path.removeprefix("medseg/"))
        ]
        assert found, path
        if name:
            last = name.rpartition(".")[2]
            assert re.search(rf"^\s*(?:def |class )?{last}\b", found[0].read_text(encoding="utf-8"), re.MULTILINE), name


def test_folders_that_the_architecture_names_exist() -> None:
    folders = re.findall(r"`((?:\w+/)+)`", ARCHITECTURE)
    assert len(folders) > 20
    for folder in folders:
        assert any((above / folder).is_dir() for above in (PACKAGE, REPOSITORY)), folder


def test_the_architecture_has_the_layers_of_the_import_contract() -> None:
    contract = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [each["layers"] for each in contract["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    drawn = re.search(r"^## Layers\n\n.*\n\n((?:    .*\n)+)", ARCHITECTURE, re.MULTILINE)
    assert drawn
    names = [set(line.split("   ")[0].split(", ")) for line in drawn[1].replace("\n    ", "\n").strip().splitlines()]
    assert names == [set(layer.replace("medseg.", "").split(" | ")) for layer in layers]
