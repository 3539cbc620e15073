"""The size and shape of the code: small functions, few parameters, modules that are read in one go, no circles.

What was larger when these limits came is named below. A name is taken away as soon as it is needed no longer; none is
ever added.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import medseg

PACKAGE = Path(medseg.__file__).parent
LINES_OF_A_FUNCTION = 60  # of its body, without the docstring
PARAMETERS = 6
LINES_OF_A_MODULE = 300
LINES_OF_A_WORKFLOW = 150

LONG_FUNCTIONS: set[str] = set()

MANY_PARAMETERS: set[str] = set()

LONG_MODULES: set[str] = set()

CIRCLES: set[frozenset[str]] = set()

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, tuple[str, ast.Module]]:
    """Source and tree of each module, by its path in the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text("utf-8")
        found[path.relative_to(PACKAGE).as_posix()] = (source, ast.parse(source))
    return found


def functions() -> Iterator[tuple[str, Function]]:
    """Each function, with ``path: name``."""
    for path, (_, tree) in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}: {node.name}", node


def lines_of_body(function: Function) -> int:
    documented = ast.get_docstring(function) is not None
    body = function.body[1:] if documented else function.body
    return 0 if not body else (function.end_lineno or 0) - body[0].lineno + 1


def n_parameters(function: Function) -> int:
    arguments = function.args
    named = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(named) - (named[:1] in (["self"], ["cls"], ["_"]))


def verbs() -> set[str]:
    """What ``medseg/__init__`` exports from other modules, as ``path: name``."""
    homes = (home.split(":") for home in medseg._HOMES.values())
    return {f"{module.removeprefix('medseg.').replace('.', '/')}.py: {name}" for module, name in homes}


def imports_of(path: str, tree: ast.Module) -> set[str]:
    """The modules of medseg that one imports, inside of functions too, but not for its annotations only."""
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (name.replace(".", "/").removeprefix("medseg/") for name in found if name.startswith("medseg."))
    known = modules()
    return {
        candidate
        for file in files
        for candidate in (f"{file}.py", f"{file}/__init__.py")
        if candidate in known and candidate != path
    }


def circles() -> set[frozenset[str]]:
    """Sets of modules each of which leads to all others of the set (Tarjan's strongly connected components)."""
    graph = {path: imports_of(path, tree) for path, (_, tree) in modules().items()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(path: str) -> None:
        number[path] = low[path] = len(number)
        stack.append(path)
        for other in graph[path]:
            if other not in number:
                visit(other)
                low[path] = min(low[path], low[other])
            elif other in stack:
                low[path] = min(low[path], number[other])
        if low[path] == number[path]:
            start = stack.index(path)
            if len(stack) - start > 1:
                found.add(frozenset(stack[start:]))
            del stack[start:]

    for path in graph:
        if path not in number:
            visit(path)
    return found


def long_functions() -> set[str]:
    return {name for name, function in functions() if lines_of_body(function) > LINES_OF_A_FUNCTION}


def many_parameters() -> set[str]:
    allowed = verbs()
    return {
        name
        for name, function in functions()
        if n_parameters(function) > PARAMETERS and not name.startswith("cli/") and name not in allowed
    }


def long_modules() -> set[str]:
    limits = (("workflows/", LINES_OF_A_WORKFLOW), ("", LINES_OF_A_MODULE))
    return {
        path
        for path, (source, _) in modules().items()
        if source.count("\n") > next(limit for start, limit in limits if path.startswith(start))
    }


@pytest.mark.parametrize(
    ("found", "exceptions"),
    [
        pytest.param(long_functions, LONG_FUNCTIONS, id="lines of functions"),
        pytest.param(many_parameters, MANY_PARAMETERS, id="parameters"),
        pytest.param(long_modules, LONG_MODULES, id="lines of modules"),
        pytest.param(circles, CIRCLES, id="circles of imports"),
    ],
)
def test_limits(found, exceptions) -> None:  # type: ignore[no-untyped-def]
    now = found()
    assert now - exceptions == set(), "beyond the limit: make it smaller"
    assert exceptions - now == set(), "within the limit by now: take these names off the list"


def test_the_facade_is_not_imported_from_below() -> None:
    """Nor from anywhere else in the package: it is lazy, and takes what it needs from below."""
    importers = [
        path
        for path, (_, tree) in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and "medseg" in [alias.name for alias in node.names])
        or (isinstance(node, ast.ImportFrom) and node.module == "medseg" and path != "cli/main.py")
    ]
    assert importers == []


def test_two_things_never_share_a_name() -> None:
    """Public functions and classes; a command has the name of the workflow that it calls."""
    homes: dict[str, set[str]] = {}
    for path, (_, tree) in modules().items():
        for node in tree.body if not path.startswith("cli/") else ():
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


# What changes a process as a whole, and where that is meant.
OF_THE_PROCESS = {
    "os.environ": {
        "__init__.py",  # OpenMP's, documented there
        "parallel.py",  # of worker processes, and read
        "progress.py", "process_group.py", "training/callbacks/mlflow.py",  # read only
        "inferers/quantised.py",  # NNCF would report its use over the network
        "workflows/models.py", "interop/totalsegmentator/tasks.py",  # where these programs keep theirs; read only
        "workflows/fetch.py", "pacs/container.py",  # read only
    },
    "os.putenv": set(),
    "set_num_threads": {"parallel.py", "threads.py"},  # of workers; around a step
    "warnings.filterwarnings": {"process_group.py"},  # within catch_warnings
    "matplotlib.use": set(),
    "numpy.seterr": set(),
    "set_start_method": set(),
    "set_default_dtype": set(),
    "basicConfig": set(),
}  # fmt: skip


def test_effects_on_the_process_are_known() -> None:
    texts = {path: ast.unparse(tree) for path, (_, tree) in modules().items()}
    found = {effect: {path for path, text in texts.items() if effect in text} for effect in OF_THE_PROCESS}
    unknown = {effect: paths - OF_THE_PROCESS[effect] for effect, paths in found.items()}
    assert {effect: paths for effect, paths in unknown.items() if paths} == {}


def test_folders_and_json_are_written_in_one_way() -> None:
    """By ``files``; what is read as JSON goes through ``records``. The viewer's page is sent JSON over HTTP."""
    allowed = {
        "import json": {"files.py", "records.py", "viewer/contents.py"},
        # The formats of others.
        "write_json": {
            "files.py",
            "records.py",
            "interop/monai_bundle.py",
            "interop/nnunet/exporter.py",
            "pacs/container.py",
            "phantom/small_structures.py",
            "phantom/study_set.py",
        },
        "shutil.rmtree": {
            "files.py",
            "io/archives.py",  # what was unpacked, when the process ends
            "inspection/fixed_copy.py",  # a copy that is begun anew
            "pacs/queue.py",  # studies that are finished and old
        },
        "mkdtemp": {"io/archives.py"},  # the place of what is unpacked
        "ProcessPoolExecutor": {"parallel.py"},
    }
    texts = {path: ast.unparse(tree) for path, (_, tree) in modules().items()}
    found = {what: {path for path, text in texts.items() if re.search(rf"{what}\b", text)} for what in allowed}
    assert found == allowed
