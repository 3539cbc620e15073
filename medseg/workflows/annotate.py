"""annotate: label maps are drawn in the browser, helped by a network that learns from them."""

import getpass
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from medseg.device import choose_device
from medseg.errors import SourceError
from medseg.extras import check_installed
from medseg.progress import say


def annotate(
    data: str | Path,
    model: str | Path | None = None,
    *,
    labels: Sequence[str] = (),
    annotator: str | None = None,
    held_back: float = 0.2,
    max_time: str = "10m",
    train_options: Sequence[str] = (),
    images: str | Sequence[str] | None = None,
    max_upload: str = "1GB",
    device: str = "auto",
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serves a page on which the images of a folder are annotated, on 127.0.0.1 until Ctrl-C.

    Label maps, who drew them, and the networks that are trained lie in ``annotations/`` in the folder. With these it
    is a dataset that ``preprocess`` takes. Images are never changed. What is drawn is on the disk stroke by stroke, so
    that a killed server loses nothing.

    Args:
        data: The folder of the images, in any layout.
        model: A RUN or a model folder. It draws a first mask, and answers to clicks where it was trained with
            ``--prompts``. None: everything is drawn by hand, until a network has been trained on the page.
        labels: Names of the structures to draw, beside those that the folder and the model have.
        annotator: Who draws, for the provenance of label maps. None: the name of the user.
        held_back: The part of the cases that no network is trained on, drawn when a folder is annotated first.
        max_time: Of each training on the page, as in ``train``.
        train_options: More options of ``medseg train``, such as ``("--network", "resunet")``.
        images: Globs as in ``preprocess``.
        max_upload: What a request may send, as "1GB".
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        port: 0 takes a free one.
        browser: Whether the browser is opened.

    Raises:
        SourceError: The folder holds no images.
        ModelError: The model cannot be used.
        OutputError: The port is taken, or the folder cannot be written.
    """
    check_installed("annotate", "serve")
    from medseg.annotation.folder import AnnotatedFolder
    from medseg.annotation.rounds import Rounds
    from medseg.annotation.routes import AnnotationRoutes
    from medseg.inferers.memory_plan import bytes_of
    from medseg.serve.access import AccessRules
    from medseg.serve.app import create_app
    from medseg.serve.datastore import Datastore
    from medseg.serve.models import served_models
    from medseg.serve.server import address_of, opened_port, run_until_interrupted
    from medseg.serve.state import ServerState

    rules, chosen = AccessRules.of("127.0.0.1", None, True, (), bytes_of(max_upload)), choose_device(device)
    datastore = Datastore(Path(data), images)
    if not datastore.cases:
        raise SourceError(f"{data}: no images found; give a folder of DICOM, NIfTI, NRRD or pictures")
    models = served_models([] if model is None else [Path(model)], chosen)
    folder = AnnotatedFolder(datastore, held_back)
    for name in dict.fromkeys([*labels, *(name for each in models.values() for name in each.label_names)]):
        if name not in folder.labels.names:
            folder.add_label(name)
    rounds = Rounds(folder, models, chosen, train_options)
    state = ServerState(datastore, models, rules, chosen, training=rounds)
    page = AnnotationRoutes(state, folder, rounds, annotator or getpass.getuser(), max_time)
    state.strategies = page.chooser.strategies()
    opened = opened_port(rules.host, port)
    address = f"{address_of(opened, rules, False)}annotate/"
    say(f"{datastore.counts()}")
    say(f"{address}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(address)
    run_until_interrupted(create_app(state, page.routes()), opened)
    rounds.stop()
    say("Ended")
