"""serve: models and a folder of images for 3D Slicer, OHIF and other viewers, over HTTP."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.inferers.memory_plan import bytes_of
from medseg.progress import say

MOST_SHOWN = 8  # labels of a model
NEEDED = ("starlette", "uvicorn", "python_multipart", "blosc2")


def serve(
    models: Sequence[str | Path],
    data: str | Path,
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
) -> None:
    """Serves models and the images of a folder until Ctrl-C.

    It speaks MONAI Label's REST API, for 3D Slicer's MONAI Label module and OHIF's plugin, and nnInteractive's
    protocol, for its client and 3D Slicer's nnInteractive extension. Label maps that people save lie in
    ``data/annotations``, with their provenance; ``preprocess`` takes ``data`` with them.

    Args:
        models: RUNs or model folders, imported ones and those of several members too; none is needed to draw only.
        data: The folder of the images. No other file is ever opened for a client.
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

    Raises:
        MedsegError: A model or the folder cannot be used, or a setting is wrong.
        OutputError: The port is taken.
    """
    check_installed()
    from medseg.serve.access import AccessRules
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
    offered = served_models([Path(model) for model in models], chosen, backend)
    datastore = Datastore(Path(data), images)
    state = ServerState(datastore, offered, rules, chosen, BackgroundTraining(datastore, offered, chosen))
    app = create_app(state, [*MonaiLabel(state).routes, *NnInteractive(state, array_orientation).routes])
    opened = opened_port(host, port)
    for model in offered.values():
        names = ", ".join(model.label_names[:MOST_SHOWN])
        more = f" and {len(model.label_names) - MOST_SHOWN} more" if len(model.label_names) > MOST_SHOWN else ""
        say(f"  {model.name}: {names}{more}{'; takes prompts' if model.is_promptable else ''}")
    say(datastore.counts())
    say(f"{address_of(opened, rules, certificate is not None)}  (Ctrl-C ends it)")
    run_until_interrupted(app, opened, *tls)
    say("Ended")


def check_installed() -> None:
    """Checks that the libraries of a server are there.

    Raises:
        ConfigError: One is not.
    """
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        raise ConfigError(f"to serve, {', '.join(lacking)} has to be there: pip install 'medseg[serve]'")
