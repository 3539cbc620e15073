"""Plugins: what they register is used by its name, and what is wrong with them is told with file and line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from model_records import record_of
from typer.testing import CliRunner

from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError, ModelError
from medseg.inferers.model import load_model, save_model
from medseg.labels import Labels
from medseg.losses import create_loss
from medseg.networks import build_network, create_network
from medseg.plan import Plan
from medseg.plugins import (
    PluginError,
    forget_plugins,
    load_plugins,
    loaded_plugins,
    register_callback,
    register_loss,
    register_optimizer,
    register_schedule,
    register_transform,
    registered,
    registered_callbacks,
)
from medseg.training.optimizers import make_optimizer
from medseg.training.schedule import learning_rate
from medseg.transforms.augmentation.pipeline import EachSample
from medseg.transforms.registry import monai_transform

PLUGIN = '''
"""Networks of one lab."""
import torch
from medseg.plugins import register_callback, register_loss, register_network, register_transform

@register_network("two-layers", dims=(2, 3), learning_rate=2e-3, title="Two convolutions")
class TwoLayers(torch.nn.Module):
    """Two convolutions, and a pooling between them."""

    def __init__(self, in_channels, out_channels, spatial_dims, width=4, fails=False):
        super().__init__()
        kind = torch.nn.Conv3d if spatial_dims == 3 else torch.nn.Conv2d
        if fails:
            raise RuntimeError("no such width. Sorry")
        self.first, self.last = kind(in_channels, width, 3, padding=1), kind(width, out_channels, 1)
        self.pool = torch.nn.MaxPool3d(4) if spatial_dims == 3 else torch.nn.MaxPool2d(4)
        self.up = torch.nn.Upsample(scale_factor=4)

    def forward(self, image):
        features = self.first(image).relu()
        return self.last(features + self.up(self.pool(features)))

@register_network("with-heads", multiple_of=2)
def with_heads(in_channels, out_channels, spatial_dims, architecture):
    class Heads(torch.nn.Conv3d):
        def forward(self, image):
            logits = super().forward(image)
            return [logits, logits[..., ::2, ::2, ::2]] if self.training else logits
    return Heads(in_channels, out_channels, architecture.kernel_sizes[0], padding=1)

@register_transform("times")
def times(keys, factor=2.0):
    return lambda data: data | {key: data[key] * factor for key in keys}

@register_callback("counts")
class Counts:
    pass
'''

ARCHITECTURE = Architecture(
    name="two-layers", features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernel_sizes=((3, 3, 3), (3, 3, 3))
)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "lab.py"
    file.write_text(PLUGIN)
    load_plugins([file])
    yield file
    forget_plugins()


def test_what_is_registered_is_had_by_its_name(plugin: Path) -> None:
    network = create_network("two-layers", in_channels=1, out_channels=3, spatial_dims=2, width=8)
    assert network(torch.randn(1, 1, 10, 7)).shape == (1, 3, 10, 7)  # what it pools was found by trying
    doubled = monai_transform({"name": "times", "keys": ["image"], "factor": 3.0})({"image": torch.ones(1)})
    assert float(doubled["image"]) == 3
    assert [type(each).__name__ for each in registered_callbacks()] == ["Counts"]
    assert [each.name for each in registered("network")] == ["two-layers", "with-heads"]
    load_plugins([plugin])  # again, as in a notebook
    assert loaded_plugins() == [plugin.resolve()]
    assert [each.name for each in registered("network")] == ["two-layers", "with-heads"]


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_heads_of_a_plugins_network_are_learnt_where_the_user_wants_it(plugin: Path, deep_supervision: bool) -> None:
    plan = ARCHITECTURE.model_copy(update={"name": "with-heads", "deep_supervision": deep_supervision})
    network = build_network(1, 2, plan).train()
    outputs = network(torch.randn(1, 1, 5, 6, 8))
    assert [head.shape[2:] for head in outputs] == [(5, 6, 8), (3, 3, 4)] if deep_supervision else (1, 2, 5, 6, 8)
    assert network.eval()(torch.randn(1, 1, 5, 6, 8)).shape == (1, 2, 5, 6, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fails": True}, PluginError, r"lab\.py, line 14: RuntimeError: no such width$"),
        ({"depth": 2}, ConfigError, "network.arguments.depth: two-layers of .*lab.py"),
        ({"in_channels": 2}, ConfigError, "network.arguments.in_channels: follows from the data"),
    ],
)
def test_arguments_that_do_not_fit(plugin: Path, arguments: dict[str, int], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build_network(1, 2, ARCHITECTURE.model_copy(update={"arguments": arguments}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0", r"wrong\.py, line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n  pass", r"wrong\.py, line 1: SyntaxError"),
        ("import no_such_module", r"wrong\.py, line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", "wrong.py registers nothing; decorate a class"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(text)
    with pytest.raises(PluginError, match=message):
        load_plugins([file])
    with pytest.raises(PluginError, match="there is no file .*gone.py"):
        load_plugins([tmp_path / "gone.py"])


def test_names_are_taken_once(plugin: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(PLUGIN)
    with pytest.raises(PluginError, match=r"other.py: registers the network 'two-layers', and so does .*lab.py"):
        load_plugins([other])
    other.write_text(PLUGIN.replace("two-layers", "unet").replace("with-heads", "x").replace('"times"', '"y"'))
    with pytest.raises(PluginError):
        load_plugins([other])  # a callback of a name that is there
    other.write_text("from medseg.plugins import register_network\nregister_network('unet')(dict)")
    load_plugins([other])
    with pytest.raises(PluginError, match="registers the network 'unet', which is medseg's own"):
        create_network("unet", in_channels=1, out_channels=2)


def test_networks_lists_what_plugins_registered(prepared: PreparedDataset, tmp_path: Path) -> None:
    file = tmp_path / "lab.py"
    file.write_text(PLUGIN)
    small = ["--prepared", str(prepared.folder), "--dims", "2"]  # networks for larger patches take longer to count
    try:
        listed = CliRunner().invoke(app, ["networks", "--plugin", str(file), *small, "--json"])
        own = next(each for each in json.loads(listed.stdout) if each["name"] == "two-layers")
        assert (own["title"], own["learning_rate"]) == ("Two convolutions", 2e-3)
        assert [each["name"] for each in own["arguments"]] == ["width", "fails"]
        text = CliRunner().invoke(app, ["networks", "two-layers", "--plugin", str(file), "--dims", "2"]).stdout
        flat = " ".join(text.split())
        assert "Networks of one lab. Two convolutions, and a pooling between them." in flat
        assert "transform times, of" in flat and "callback counts, of" in flat
    finally:
        forget_plugins()


def test_a_model_names_no_plugin(plugin: Path, tmp_path: Path, tiny_plan: Plan) -> None:
    """A model.json says the name of a plugin's network; only the user can give the plugin."""
    plan = tiny_plan.model_copy(update={"architecture": ARCHITECTURE})
    labels = Labels.from_names({"organ": 1})
    record = record_of(plan, labels, ("CT",))
    save_model(tmp_path / "model", record, build_network(1, 2, ARCHITECTURE).state_dict())
    assert load_model(tmp_path / "model", choose_device("cpu")).record.plan.architecture.name == "two-layers"
    forget_plugins()
    with pytest.raises(ModelError, match=r"model.json: network.name: there is no network 'two-layers'.*--plugin") as e:
        load_model(tmp_path / "model", choose_device("cpu"))
    assert "\n" not in str(e.value)


def test_parts_that_are_there_without_plugins_keep_their_names(tmp_path: Path) -> None:
    build = lambda *arguments, **named: None  # noqa: E731
    try:
        register_loss("dice-ce")(build)
        register_optimizer("muon")(build)
        register_schedule("cosine")(build)
        register_transform("ScaleIntensityd")(build)
        settings = load().training
        for use in (
            lambda: create_loss("dice-ce"),
            lambda: make_optimizer(torch.nn.Conv3d(1, 1, 1), 0.1, settings),
            lambda: learning_rate(0.5, 1.0, 0.0, "cosine"),
            lambda: monai_transform({"name": "ScaleIntensityd", "keys": ["image"]}),
        ):
            with pytest.raises(
                PluginError, match=r"test_plugins.py: registers the .* which is medseg's own, or MONAI's"
            ):
                use()
    finally:
        forget_plugins()


def test_a_transform_of_a_plugin_is_told_of_as_its_other_parts_are(plugin: Path) -> None:
    with pytest.raises(ConfigError, match=r"transforms: times of .*lab.py: got an unexpected keyword argument 'by'"):
        monai_transform({"name": "times", "keys": ["image"], "by": 2})
    broken = EachSample(monai_transform({"name": "times", "keys": ["no such key"]}))
    with pytest.raises(ConfigError, match=r"failed on a patch: .*lab.py, line 33: KeyError"):
        broken({"image": torch.zeros(1, 1, 4, 4), "label": torch.zeros(1, 1, 4, 4)})


def test_a_callback_with_several_arguments_is_made_as_often() -> None:
    @register_callback("every")
    class Every:
        def __init__(self, n: int = 1) -> None:
            self.n = n

    try:
        assert [each.n for each in registered_callbacks()] == [1]
        assert [each.n for each in registered_callbacks([{"name": "every", "n": 2}, {"name": "every", "n": 5}])] == [
            2,
            5,
        ]
    finally:
        forget_plugins()
