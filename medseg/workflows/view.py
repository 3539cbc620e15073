"""view: an image and its masks, or the cases of an evaluation, in the browser or in 3D Slicer."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from medseg.errors import ConfigError, OutputError
from medseg.progress import say
from medseg.viewer.contents import ViewerContents
from medseg.viewer.opening import open_cases
from medseg.viewer.server import HOST, Server
from medseg.viewer.slicer import write_slicer


def view(
    source: str | Path,
    masks: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serves an image and its masks, or the cases of an evaluation, on 127.0.0.1 until Ctrl-C.

    Nothing but these cases is served, and only below a random token.

    Args:
        source: An image, an evaluation (a folder with metrics.json), a RUN, or a folder of predictions.
        masks: Those of the image; the other sources have their own.
        reference: The mask that they should be like.
        port: 0 takes a free one.
        browser: Whether the browser is opened.

    Raises:
        SourceError: It cannot be shown.
        OutputError: The port is taken.
    """
    cases = open_cases(Path(source), [Path(mask) for mask in masks], None if reference is None else Path(reference))
    try:
        server = Server(ViewerContents(cases, Path(source).resolve().name), port)
    except OSError as error:
        raise OutputError(f"port {port} of {HOST} cannot be used ({error.strerror}); choose another --port") from error
    say(f"{server.address}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("Ended")
    finally:
        server.server_close()


def to_slicer(
    source: str | Path,
    output: str | Path,
    masks: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    case: str | None = None,
) -> Path:
    """Writes what 3D Slicer opens: the image and the masks with names and colours.

    Args:
        source: As in ``view``.
        output: A bundle when it is named .mrb, else a folder with a script.
        masks: Those of the image; the other sources have their own.
        reference: The mask that they should be like.
        case: Of several cases the one to write. None: the worst.

    Returns:
        The bundle or the script.

    Raises:
        SourceError: A file cannot be read.
        ConfigError: There is no such case.
    """
    cases = open_cases(Path(source), [Path(mask) for mask in masks], None if reference is None else Path(reference))
    by_id = {each.case_id: each for each in cases}
    if case is not None and case not in by_id:
        raise ConfigError(f"{source} has no case '{case}'; there are {', '.join(list(by_id)[:5])}, …")
    chosen = cases[0] if case is None else by_id[case]
    scene = chosen.load()
    for note in scene.notes:
        say(note)
    return write_slicer(chosen.case_id, scene, Path(output))
