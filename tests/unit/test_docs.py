"""What the documentation tells users to type is accepted: commands parse, settings load, links lead somewhere."""

import re
import shlex
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
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:medseg/)?\w+/?\w*\.py)\b", text)
    assert len(paths) > 20
    for path in paths:
        assert (REPOSITORY / "medseg" / path.removeprefix("medseg/")).is_file(), path
