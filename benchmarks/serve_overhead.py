"""What the protocols of medseg serve cost beside the answer of the network, for a scan of 512×512×300 voxels.

The session answers at once, with a box of 96³ voxels: what is timed are HTTP, packing, and what the client does.

    python benchmarks/serve_overhead.py [--shape 512 512 300]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as RemoteSession

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from promptable import model_of
from serving import TOKEN, app_of, on_a_port, served, state_of

from medseg.interactive.object_mask import MaskChange
from medseg.serve import prompt_sessions
from medseg.serve.nninteractive import routes
from medseg.volume import Volume

EDGE, REPEATS = 96, 20


class InstantSession:
    """Answers with a box, whatever is asked."""

    def __init__(self, model: object, image: Volume) -> None:
        self.model, self.image = model, image
        starts = [n // 3 for n in image.geometry.shape]
        self.bounds = tuple(
            (start, min(start + EDGE, n)) for start, n in zip(starts, image.geometry.shape, strict=True)
        )
        inside = np.indices([end - start for start, end in self.bounds]).sum(0) % 97 < 50
        self.change = MaskChange(self.bounds, inside)  # type: ignore[arg-type]
        self.mask = np.zeros(image.geometry.shape, bool)
        self.mask[tuple(slice(*ends) for ends in self.bounds)] = inside

    def add_point(self, *_: object, **__: object) -> MaskChange:
        return self.change

    def predict(self) -> MaskChange:
        return self.change

    reset = predict


def timed(function: object) -> float:
    """The median time of some calls, in milliseconds."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        function()  # type: ignore[operator]
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    shape = tuple(parser.parse_args().shape)
    routes.InteractiveSession = prompt_sessions.InteractiveSession = InstantSession  # type: ignore[misc, assignment]
    array = np.random.default_rng(0).normal(0, 300, (1, *shape)).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        state = state_of(
            Path(folder) / "data", {"click": served(model_of(), "click", Path(folder))}, largest_body=2**31
        )
        with on_a_port(app_of(state)) as address:
            with RemoteSession(address, TOKEN) as session:
                began = time.perf_counter()
                session.set_image(array, {"spacing": [1, 1, 1]})
                print(f"nnInteractive, image sent: {time.perf_counter() - began:.1f} s")
                session.set_target_buffer(np.zeros(shape, np.uint8))
                each = timed(lambda: session.add_point_interaction((9, 9, 9), include_interaction=True))
                print(f"nnInteractive, a point and its mask of {EDGE}³ voxels: {each:.1f} ms")
            with httpx.Client(base_url=f"{address}/{TOKEN}/", timeout=600) as client:
                print(f"a request of nothing: {timed(lambda: client.get('healthz')):.1f} ms")


if __name__ == "__main__":
    main()
