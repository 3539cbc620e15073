"""How medseg works beside a PACS: who may send, what is predicted, where results go. A YAML file, or options."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator

from medseg.errors import ConfigError
from medseg.inferers.memory_plan import bytes_of
from medseg.io.mask_formats import format_named
from medseg.pacs.peers import Caller, Peer
from medseg.records import Record, read_yaml, validated
from medseg.setting_types import Duration, Range

ADVICE = "see docs/how-to/pacs.md"

Orientation = Literal["axial", "coronal", "sagittal"]


def _bytes(size: object) -> object:
    return bytes_of(size) if isinstance(size, str) else size


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]


class SeriesFilter(Record):
    """Which series are meant. What is not given is not asked; texts are compared without regard to case.

    Attributes:
        modality: DICOM's: "CT", "MR", "PT"; any of several.
        description: A regular expression that is found in SeriesDescription.
        study_description: The same of StudyDescription.
        body_part: BodyPartExamined; any of several.
        orientation: Of the slices: "axial", "coronal" or "sagittal"; oblique ones are what they are nearest to.
        thickness_mm: The least and the largest SliceThickness, in mm.
        image_type: Values that ImageType has to have, all of them.
        least_slices: Of fewer no volume is predicted.
    """

    modality: Texts = ()
    description: str | None = None
    study_description: str | None = None
    body_part: Texts = ()
    orientation: Orientation | None = None
    thickness_mm: Range | None = None
    image_type: Texts = ()
    least_slices: PositiveInt = 1

    @field_validator("description", "study_description")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        return value


class SeriesRule(Record):
    """What is predicted of a study: the series that a filter takes, by a model. The first rule of a model that finds
    series decides.

    Attributes:
        model: The model's name.
        series: Which series; of a model of one channel.
        channels: Which series each channel is, by the channel's name; of models of several.
        callers: AE titles whose studies the rule is for; (): all.
        take: "best": the series of them that the model fits best. "all": each of them.
    """

    model: str
    series: SeriesFilter = SeriesFilter()
    channels: dict[str, SeriesFilter] = Field(default_factory=dict)
    callers: Texts = ()
    take: Literal["best", "all"] = "best"


class DicomSettings(Record):
    """All that ``medseg serve --dicom`` can be told.

    Attributes:
        port: That the DICOM listener has; 0 takes a free one.
        host: The address that it is bound to.
        ae_title: Its AE title.
        any_called_title: Whether associations for other AE titles are accepted too.
        callers: Who may send; (): all programs of this machine, where no other reaches the port.
        certificate: Of TLS, in PEM; without it DICOM is spoken in the clear.
        key: Of TLS, in PEM.
        client_ca: The authorities by which the certificates of callers are checked, in PEM; callers need one then.
        queue: The folder of the queue.
        send: Where results go.
        commitments: Senders that may ask whether what they sent is kept (storage commitment), and where they listen
            for the answer; their instances are removed as others are (``keep``).
        formats: What is written of each case: names of ``--format``.
        quiet_time: A study is complete when nothing of it came for so long, in seconds or as "60s".
        longest_time: A study is complete so long after its first instance at the latest.
        count_at: An archive that is asked how many instances a study has; it is complete as soon as all are there.
        rules: What is predicted of which series; without any for a model, the series of a study that it fits best.
        max_instance: Bytes that an instance may have.
        max_disk: Bytes of received instances; the oldest finished studies are removed, then instances are refused.
        least_free: Bytes that stay free on the disk; below it instances are refused.
        keep: Finished studies are removed after so long.
        tries: How many times a result is sent before it is given up.
        first_wait: Seconds before it is sent a second time; each further one comes after twice as long.
        longest_wait: Seconds between two tries, at most.
        max_memory: What a case may take, as in ``predict``.
        max_associations: That are open at once.
    """

    port: int = Field(11112, ge=0, lt=2**16)
    host: str = "127.0.0.1"
    ae_title: str = Field("MEDSEG", min_length=1, max_length=16)
    any_called_title: bool = True
    callers: Annotated[tuple[Caller, ...], BeforeValidator(_several)] = ()
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    queue: Path = Path("medseg-queue")
    send: Annotated[tuple[Peer, ...], BeforeValidator(_several)] = ()
    commitments: Annotated[tuple[Peer, ...], BeforeValidator(_several)] = ()
    formats: Texts = ("dicom-seg",)
    quiet_time: Duration = 60.0
    longest_time: Duration = 5400.0
    count_at: Peer | None = None
    rules: tuple[SeriesRule, ...] = ()
    max_instance: Bytes = 2**32
    max_disk: Bytes | None = None
    least_free: Bytes = 2**30
    keep: Duration = 3 * 86400.0
    tries: PositiveInt = 10
    first_wait: Duration = 5.0
    longest_wait: Duration = 3600.0
    max_memory: Bytes | None = None
    max_associations: PositiveInt = 16

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: the two files of TLS, in PEM")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key: callers are checked within TLS")
        if other := [peer.address for peer in self.commitments if peer.kind != "dicom"]:
            raise ValueError(f"commitments: {other[0]} is no AET@host:port, where a sender listens for the answer")
        return self

    def checked(self, models: tuple[str, ...], is_local: bool) -> Self:
        """Returns the settings, where they can be used with these models.

        Args:
            models: Their names.
            is_local: Whether no other machine reaches the port.

        Raises:
            ConfigError: A rule names another model, a format is no DICOM, or anybody could send.
        """
        for rule in self.rules:
            if rule.model not in models:
                raise ConfigError(f"rules: there is no model '{rule.model}'; there are {', '.join(models) or 'none'}")
        for name in self.formats:
            if not format_named(name).on_dicom:
                raise ConfigError(f"--format {name}: is no DICOM, and results go to archives; choose dicom-seg")
        if not is_local and not self.callers and self.client_ca is None:
            raise ConfigError(
                f"--host {self.host}: anybody in the network could send; name who may with --caller AET@ADDRESS, or "
                "let all in with --caller '*'"
            )
        return self


def read_dicom_settings(path: Path) -> DicomSettings:
    """Returns the settings of a YAML file.

    Raises:
        ConfigError: It is no such file.
    """
    content = read_yaml(path, ADVICE, ConfigError)
    return validated(content or {}, DicomSettings, path, ADVICE, ConfigError)


def changed_settings(settings: DicomSettings, changes: Mapping[str, Any]) -> DicomSettings:
    """Returns settings with others in their place.

    Args:
        settings: Of a file, or the usual ones.
        changes: By name, as YAML would have them.

    Raises:
        ConfigError: One cannot be so.

    Examples:
        >>> changed_settings(DicomSettings(), {"send": ["PACS@10.0.0.5:104"], "quiet_time": "30s"}).quiet_time
        30.0
    """
    names = settings.model_fields_set
    content = {name: getattr(settings, name) for name in names} | dict(changes)
    return validated(content, DicomSettings, Path("settings of DICOM"), ADVICE, ConfigError)
