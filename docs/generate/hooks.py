"""What MkDocs calls while it builds the site: adds the generated pages, and leads links to files of the repository."""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import command_line
import file_formats
import python_api
import settings

REPOSITORY = Path(__file__).resolve().parents[2]
COPIES = "repository"  # where pages of the repository that lie outside of docs/ are on the site
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "benchmarks/README.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the Python reference, which exist only now, into the navigation."""
    (reference,) = (part["Reference"] for part in config.nav or [] if "Reference" in part)
    (python,) = (part for part in reference if "Python" in part)
    python["Python"] = [{page.title: page.path} for page in python_api.pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is generated, and the pages and files of the repository that pages link to."""
    generated: dict[str, str] = {page.path: page.text for page in python_api.pages()}
    generated |= command_line.files() | settings.files() | file_formats.files()
    for path, text in generated.items():
        files.append(File.generated(config, path, content=text))
    pages = [*(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / name for name in OUTSIDE)]
    linked = {target for page in pages for target in _linked(page) if target.is_file()}
    for target in sorted(linked | {REPOSITORY / name for name in OUTSIDE}):
        path = target.relative_to(REPOSITORY).as_posix()
        if not path.startswith("docs/"):
            files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Leads links that leave docs/, or that come from outside of it, to where the file is on the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(here)
    source = here.removeprefix(f"{COPIES}/") if here.startswith(COPIES) else f"docs/{here}"

    def led(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        if not (REPOSITORY / target).exists():
            return link[0]  # a generated page, or one that MkDocs will tell of
        if (REPOSITORY / target).is_dir():
            return f"]({_on_site('README.md', folder)})"
        return f"]({_on_site(target, folder)}{link[2] or ''})"

    return LINK.sub(led, markdown)


def _on_site(target: str, folder: str) -> str:
    place = target.removeprefix("docs/") if target.startswith("docs/") else f"{COPIES}/{target}"
    return posixpath.relpath(place, folder or ".")


def _linked(page: Path) -> list[Path]:
    text = page.read_text(encoding="utf-8")
    targets = [(page.parent / link[1]).resolve() for link in LINK.finditer(text)]
    return [target for target in targets if target.is_relative_to(REPOSITORY)]
