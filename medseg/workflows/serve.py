"""serve: models and a folder of images for viewers, over HTTP; and a DICOM port beside a PACS."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.extras import check_installed
from medseg.files import ensure_folder
from medseg.inferers.memory_plan import bytes_of
from medseg.progress import listed, say

if TYPE_CHECKING:
    from medseg.pacs.settings import DicomSettings
    from medseg.serve.datastore import Datastore
    from medseg.serve.models import ServedModel

MOST_SHOWN = 8  # labels of a model
IMAGES = "images"  # the folder in the queue's that is served where there is no other: it stays empty


def serve(
    models: Sequence[str | Path] | Mapping[str, str | Path],
    data: str | Path | None = None,
    *,
    images: str | Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    use_token: bool = True,
    origins: Sequence[str] = (),
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    max_upload: str = "1GB",
    array_orientation: str = "SPL",
    device: str = "auto",
    backend: str = "auto",
    dicom: "DicomSettings | None" = None,
) -> None:
    """Serves models and the images of a folder until Ctrl-C.

    It speaks MONAI Label's REST API, for 3D Slicer's MONAI Label module and OHIF's plugin, and nnInteractive's
    protocol, for its client and 3D Slicer's nnInteractive extension. Label maps that people save lie in
    ``data/annotations``, with their provenance; ``preprocess`` takes ``data`` with them.

    With ``dicom`` it also listens at a DICOM port: it receives studies, segments the series that a model fits, and
    sends the masks on, by C-STORE, DICOMweb or into a folder. Ctrl-C or SIGTERM then finishes the case that is under
    way; a second one hands it back to the queue.

    Args:
        models: RUNs or model folders, imported ones and those of several members too, or these by name; none is needed
            to draw only.
        data: The folder of the images. No other file is ever opened for a client. None: there is only DICOM.
        images: Globs as in ``preprocess``.
        host: The address that it is bound to. Others than this machine's own need a token.
        port: 0 takes a free one.
        token: What clients have to know. None: a new one, that nobody can guess.
        use_token: False lets in all programs of this machine.
        origins: Of pages that may ask, such as ``"http://localhost:3000"`` for an OHIF there.
        certificate: Of TLS, in PEM.
        key: Of TLS, in PEM.
        max_upload: What a request may send, as "1GB".
        array_orientation: Where the axes of arrays point that come without any orientation, by nnInteractive's
            protocol. "SPL" is 3D Slicer's order for slices that are axial.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        backend: What runs the networks, as in ``predict``.
        dicom: How it works beside a PACS; None: it does not.

    Raises:
        MedsegError: A model or the folder cannot be used, or a setting is wrong.
        OutputError: The port is taken.
    """
    check_installed("serve", "serve", *([] if dicom is None else ["dicom-network"]))
    from medseg.serve.access import AccessRules, is_loopback
    from medseg.serve.app import create_app
    from medseg.serve.background_training import BackgroundTraining
    from medseg.serve.datastore import Datastore
    from medseg.serve.models import served_models
    from medseg.serve.monai_label.routes import MonaiLabel
    from medseg.serve.nninteractive.routes import NnInteractive
    from medseg.serve.server import address_of, check_tls, opened_port, run_until_interrupted
    from medseg.serve.state import ServerState

    tls = [None if file is None else Path(file) for file in (certificate, key)]
    check_tls(*tls)
    rules = AccessRules.of(host, token, use_token, origins, bytes_of(max_upload))
    chosen = choose_device(device)
    offered = served_models(models, chosen, backend)
    datastore = Datastore(_folder_of(data, dicom), images)
    state = ServerState(datastore, offered, rules, chosen, BackgroundTraining(datastore, offered, chosen))
    routes = [] if data is None else [*MonaiLabel(state).routes, *NnInteractive(state, array_orientation).routes]
    opened = opened_port(host, port)
    with ExitStack() as stack:
        if dicom is not None:
            from medseg.pacs.routes import DicomRoutes
            from medseg.pacs.service import running_service

            checked = dicom.checked(tuple(offered), is_loopback(dicom.host))
            service = stack.enter_context(running_service(offered, checked, state.queue.submit, by_signals=True))
            routes += DicomRoutes(service).routes
        _tell(offered, datastore if data is not None else None)
        say(f"{address_of(opened, rules, certificate is not None)}  (Ctrl-C ends it)")
        run_until_interrupted(create_app(state, routes), opened, *tls)
    say("Ended")


def _folder_of(data: str | Path | None, dicom: "DicomSettings | None") -> Path:
    """Returns the folder of the images that viewers get."""
    if data is not None:
        return Path(data)
    if dicom is None:
        raise ConfigError("--data: give the folder of the images; only with --dicom it may be left out")
    return ensure_folder(dicom.queue / IMAGES, "choose another --queue")


def _tell(models: Mapping[str, "ServedModel"], datastore: "Datastore | None") -> None:
    for model in models.values():
        names = listed(model.label_names, MOST_SHOWN)
        say(f"  {model.name}: {names}{'; takes prompts' if model.is_promptable else ''}")
    if datastore is not None:
        say(datastore.counts())
