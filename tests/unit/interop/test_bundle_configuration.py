"""The configuration of a bundle is data: constants, references, and a closed list of expressions."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.errors import ConfigError, ModelError
from medseg.interop.bundle.configuration import BundleConfig, Component


def config(tmp_path: Path, content: Any, settings: tuple[str, ...] = ()) -> BundleConfig:
    file = tmp_path / "inference.json"
    file.write_text(json.dumps(content, indent="\t"))
    return BundleConfig.read(file, settings)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@n", 3),
        ("$@n", 3),
        ("$[@n, -1] + [2.5]", [3, -1, 2.5]),
        ("$[1.5] * @n", [1.5, 1.5, 1.5]),
        ("$(1, 'a')", (1, "a")),
        ("$@root + '/models/' + @name", "./models/model.pt"),
        ("$os.path.join(@root, 'models', @name)", "./models/model.pt"),
        ("$'a' if @nested#on else 'b'", "a"),
        ("$'a' if not @nested::on and @n else 'b'", "b"),
        ("$@n == 3 or @missing", True),
        ("$len(@list) // 2 % 5", 1),
        ("$@list[0]", 1),
        ("$@nested['list'][-1]", 9),
        ("$@n in [1, 3]", True),
        ("$max(@list) ** 1 if False else {'a': None}", {"a": None}),
        ("$torch.float32", "float32"),
        ("$numpy.int16", "int16"),
        ("$monai.utils.CommonKeys.IMAGE", "image"),
        ("$None", None),
        ("$float(@n)", 3.0),
        ("100 %", "100 %"),
        ("a@b.org", "a@b.org"),
    ],
)
def test_values(tmp_path: Path, text: str, value: object) -> None:
    content = {
        "n": 3,
        "root": ".",
        "name": "model.pt",
        "list": [1, 2],
        "nested": {"on": True, "list": [8, 9]},
        "text": text,
    }
    assert config(tmp_path, content).value("text") == value


def test_references_lead_up_and_through_references(tmp_path: Path) -> None:
    content = {"a": {"b": {"c": "@#d", "d": "@##e"}, "e": "@f"}, "f": [1, "@a#b#x"], "x": 1}
    content["a"]["b"]["x"] = "$@x + 1"
    assert config(tmp_path, content).value("a::b::c") == [1, 2]


CODE = [
    "$__import__('os').system('touch {0}')",
    "$open('{0}', 'w')",
    "$[open('{0}', 'w') for _ in [1]]",
    "$(lambda: open('{0}', 'w'))()",
    '$exec(\'open("{0}", "w")\')',
    "$@network.to(open('{0}', 'w')) and open('{0}', 'w')",
    "$().__class__.__bases__",
    "$str.format('{0}', @n)",
    "$f'{{@n}}'",
    "$os.getcwd()",
    "$@n.real",
    "$[*@list]",
    "$(x := 3)",
    "$10 ** 10 ** 10",
    "$1 << 100000",
    "$[0] * 100000",
    "$'a' * 5",
    "$'%s' % @n",
    "$1 / 0",
    "$@list[7]",
    "$1 +",
    "$" + "(" * 3000,
    "$" + "-" * 1500 + "1",
]


@pytest.mark.parametrize("code", CODE)
def test_code_is_refused_and_not_run(tmp_path: Path, code: str) -> None:
    written = tmp_path / "written"
    content = {"n": 3, "list": [1], "network": {"_target_": "UNet"}, "nested": [{"bad": code.format(written)}]}
    with pytest.raises(ModelError, match=r"inference\.json, line 11: nested#0#bad is .*; see docs/how-to") as caught:
        config(tmp_path, content).value("nested")
    assert not written.exists() and len(str(caught.value)) < 600


def test_what_nobody_asks_for_may_hold_anything(tmp_path: Path) -> None:
    content = {
        "imports": ["$import os"],
        "device": CODE[0],
        "network": {"_target_": "UNet", "device": "@device", "n": 1},
    }
    component = config(tmp_path, content).component("network", "a network")
    assert component.argument("n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": "@a"}, "refers to itself"),
        ({"a": "@b", "b": "$[@a]"}, "refers to itself"),
        ({"a": "@b"}, "'@b', which is not there"),
        ({"a": "%other.json#b"}, "a part of another file"),
        ({"a": {"_target_": "$str"}}, "names its class by"),
        ({"a": {"_target_": "UNet", "_mode_": "callable"}}, "has the mode 'callable', which would run code"),
        ({str(i): f"@{i + 1}" for i in range(99)} | {"a": "@0", "99": 1}, "leads through more than 50"),
        (
            {f"x{i}": [f"@x{i + 1}"] * 9 for i in range(9)} | {"a": "@x0", "x9": 1},
            "stands for more than 100,000 values",
        ),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config(tmp_path, content).value("a")


def test_nesting_too_deep_for_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inference.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ModelError, match="not JSON"):
        BundleConfig.read(file)
    content: Any = 1
    for _ in range(sys.getrecursionlimit() // 4):
        content = [content]
    with pytest.raises(ModelError, match="leads through more than 50"):
        config(tmp_path, {"a": content}).value("a")


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    file = tmp_path / "inference.yaml"
    file.write_text(yaml.safe_dump({"a": ["$1 + @b"], "b": 2}))
    assert BundleConfig.read(file).value("a") == [3]
    file.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ModelError, match=r"inference\.yaml"):
        BundleConfig.read(file)


def test_settings_change_entries_that_are_there(tmp_path: Path) -> None:
    content = {"a": {"on": True}, "b": "$1 if @a#on else 2"}
    assert config(tmp_path, content, ("a#on=false",)).value("b") == 2
    for wrong in ("a#off=1", "a", "c=1", "a#on#x=1"):
        with pytest.raises(ConfigError, match="has no such entry"):
            config(tmp_path, content, (wrong,))


def test_components_name_their_class_and_their_line(tmp_path: Path) -> None:
    content = {
        "list": [{"_target_": "monai.transforms.Resized", "keys": "image"}, {"_target_": "x.Y", "_disabled_": True}]
    }
    whole = config(tmp_path, {"all": {"_target_": "Compose", "transforms": "@list"}, **content})
    (step,) = whole.component("all", "transforms").components("transforms")
    assert isinstance(step, Component) and (step.name, step.target) == ("Resized", "monai.transforms.Resized")
    assert "line 9: list#0#keys is no size" in str(step.error("is no size", "keys"))
