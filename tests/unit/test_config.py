import re
from pathlib import Path

import pytest

from medseg.config import Config, load
from medseg.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_files_then_overrides(tmp_path: Path) -> None:
    first = tmp_path / "a.yaml"
    first.write_text("training:\n  seed: 3\n  learning_rate: 1.0e-3\n")
    second = tmp_path / "b.yaml"
    second.write_text("training:\n  seed: 4\n")
    config = load([first, second], ["training.learning_rate=1e-4", "network.features=[8, 16]"])
    assert config.training.seed == 4
    assert config.training.learning_rate == 1e-4
    assert config.network.features == [8, 16]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rte=1", "did you mean 'training.learning_rate'"),
        ("training.lr=1", "did you mean 'training.learning_rate'"),
        ("training.spacing=[1,1,1]", "did you mean 'preprocessing.spacing'"),
        ("inference.colour=red", "known are: inference.overlap, inference.window"),
        ("preprocessing.spacing=1", "should be a list"),
        ("preprocessing.spacing=[1,1]", r"spacing cannot be \[1, 1\]: it has too few numbers"),
        ("learning_rate=1", "did you mean 'training.learning_rate'"),
        ("trainin.seed=1", "did you mean 'training'"),
        ("training.optimizer=adam", "did you mean 'adamw'"),
        ("training.precision=bf61", "did you mean 'bf16'"),
        ("training.epochs=-1", "greater than or equal to 1"),
        ("training.epochs=many", "valid integer"),
        ("training.max_time=10x", "90s, 30m"),
        ("training=3", "is a section"),
        ("training.seed", "section.key=value"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_right_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(overrides=[override])
    assert override in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("12", 12)])
def test_durations(text: str, seconds: float) -> None:
    assert load(overrides=[f"training.max_time={text}"]).training.max_time == seconds


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("training: [1\n")
    with pytest.raises(ConfigError, match=r"broken.yaml: .* not YAML \(.*, line 2, column 1\)"):
        load([broken])
    with pytest.raises(ConfigError, match=r"missing.yaml: there is no such file"):
        load([tmp_path / "missing.yaml"])


def test_the_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(overrides=["training.max_time=5m", "augmentation.mirror=false"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load([path]) == config


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configs_are_valid_and_change_something(path: Path) -> None:
    assert load([path]) != Config()


def test_names_of_version_0_1_are_those_of_today(tmp_path: Path) -> None:
    old = tmp_path / "config.yaml"
    old.write_text("training:\n  optimiser: sgd\npreprocessing:\n  normalisation: ct\n")
    config = load([old], ["training.optimizer=adamw"])
    assert (config.training.optimizer, config.preprocessing.normalization) == ("adamw", "ct")


def test_a_file_is_named_by_its_whole_path(tmp_path: Path) -> None:
    file = tmp_path / ("long-" * 20 + "name") / "settings.yaml"
    file.parent.mkdir()
    file.write_text("training: {seed: x}")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: training.seed cannot be 'x'")):
        load([file])
