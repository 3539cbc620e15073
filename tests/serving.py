"""Servers for tests, on a port: of models that are written down, over folders that are drawn."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import nibabel
import numpy as np
import torch
import uvicorn
from starlette.applications import Starlette

from medseg.device import choose_device
from medseg.inferers.model import Model, save_model
from medseg.serve.access import AccessRules
from medseg.serve.app import create_app
from medseg.serve.background_training import BackgroundTraining
from medseg.serve.datastore import Datastore
from medseg.serve.models import ServedModel
from medseg.serve.monai_label.routes import MonaiLabel
from medseg.serve.nninteractive.routes import NnInteractive
from medseg.serve.server import opened_port
from medseg.serve.state import ServerState

TOKEN = "token-of-the-tests"

# A volume whose axes are permuted, flipped and turned.
OBLIQUE = np.array([[0.3, -0.9, 0.1, -20.0], [-0.8, -0.35, 0.2, 31.0], [0.2, 0.1, 2.4, -7.0], [0, 0, 0, 1]])
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] * (0.9, 1.1, 2.5)
LPS = np.diag([-0.9, -1.1, 2.5, 1.0])


def served(model: Model, name: str, folder: Path) -> ServedModel:
    """A model that is in memory already."""
    (folder / name).mkdir(parents=True)
    save_model(folder / name, model.record, {"weight": torch.zeros(1)})
    result = ServedModel(name, folder / name, choose_device("cpu"))
    result._loaded = result._promptable = model
    return result


def state_of(folder: Path, models: dict[str, ServedModel] | None = None, **rules: object) -> ServerState:
    known = AccessRules(**{"token": TOKEN, **rules})  # type: ignore[arg-type]
    datastore, offered, device = Datastore(folder), models or {}, choose_device("cpu")
    return ServerState(datastore, offered, known, device, BackgroundTraining(datastore, offered, device))


def app_of(state: ServerState) -> Starlette:
    return create_app(state, [*MonaiLabel(state).routes, *NnInteractive(state).routes])


@contextmanager
def on_a_port(app: Starlette) -> Iterator[str]:
    """Yields the address of a server, without the token."""
    opened = opened_port("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def client_of(app: Starlette, token: str | None = TOKEN) -> Iterator[httpx.Client]:
    """Yields a client of an application."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with on_a_port(app) as address, httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield client


def draw(path: Path, affine: np.ndarray = LPS, shape: tuple[int, int, int] = (20, 18, 12)) -> np.ndarray:
    """Writes an image with a bright box, and returns where that is; no axis is like another."""
    array = np.random.default_rng(0).uniform(0, 0.2, shape).astype(np.float32)
    array[4:11, 3:8, 5:9] += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return np.asarray(array > 0.5)


class BrightBox(torch.nn.Module):
    """A network of one label: what is brighter than a half."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], 1)
