"""Settings beside a PACS: what is taken, and what is refused in words."""

from pathlib import Path

import pytest

from medseg.errors import ConfigError
from medseg.pacs.peers import Caller, Peer
from medseg.pacs.settings import DicomSettings, changed_settings, read_dicom_settings


def test_a_file_of_the_docs_is_taken(tmp_path: Path) -> None:
    """The one that shows all settings shows every setting that there is."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "pacs.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "site.yaml").write_text(text)
    settings = read_dicom_settings(tmp_path / "site.yaml")
    assert settings.model_fields_set == set(DicomSettings.model_fields)
    assert settings.rules[0].model_fields_set == {"model", "series", "callers", "take"}
    assert settings.rules[0].series.model_fields_set == set(type(settings.rules[0].series).model_fields)
    assert settings.checked(("liver",), is_local=False).quiet_time == 30
    assert changed_settings(settings, {"quiet_time": "1m"}).quiet_time == 60
    assert changed_settings(settings, {}) == settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rules: [{model: liver, series: {description: '('}}]", "no regular expression"),
        ("send: [PACS@host]", "no AET@host:port"),
        ("send: ['https://me:secret@host/dicom-web']", "token_file"),
        ("send: ['PACS@host:99999']", "no port 99999"),
        ("certificate: a.pem", "go together"),
        ("callers: [CT@10.0.0.300]", "callers"),
        ("quiet: 3", "'quiet' is not known"),
        ("quiet_time: soon", "90s"),
        ("- 3", "DicomSettings"),
    ],
)
def test_wrong_settings_are_refused_in_words(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigError, match="site.yaml") as raised:
        read_dicom_settings(tmp_path / "site.yaml")
    assert reason in str(raised.value) or "dictionary" in str(raised.value)
    assert "secret" not in str(raised.value).replace("me:secret", "")


def test_settings_fit_models_and_address() -> None:
    rule = {"rules": [{"model": "kidney"}]}
    with pytest.raises(ConfigError, match="no model 'kidney'"):
        changed_settings(DicomSettings(), rule).checked(("liver",), is_local=True)
    with pytest.raises(ConfigError, match="--caller"):
        DicomSettings(host="0.0.0.0").checked((), is_local=False)
    with pytest.raises(ConfigError, match="is no DICOM"):
        changed_settings(DicomSettings(), {"formats": "nifti"}).checked((), is_local=True)
    assert changed_settings(DicomSettings(), {"callers": "*"}).checked((), is_local=False).callers[0].title == "*"


def test_peers() -> None:
    peer = Peer.of("tls:My PACS@[::1]:104")
    assert (peer.kind, peer.title, peer.host, peer.port, peer.in_tls) == ("dicom", "My PACS", "::1", 104, True)
    assert Peer.of("/a/b@c:1").kind == "folder"
    assert Peer.of("https://host/dicom-web").kind == "web"
    assert Caller.of("*@10.0.0.0/24").lets_in("ANY", "::ffff:10.0.0.3")
    assert not Caller.of("*@10.0.0.0/24").lets_in("ANY", "10.0.1.3")
    with pytest.raises(ConfigError, match="is no caller"):
        Caller.of("a\\b")
