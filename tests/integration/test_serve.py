"""medseg serve as people start it: TLS, a server that is killed, a model that is trained beside it."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from model_records import record_of
from serving import app_of, client_of, draw, state_of

from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.serve.background_training import BackgroundTraining
from medseg.serve.datastore import Datastore

pytestmark = pytest.mark.slow


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yields a server in a process of its own, and its address with the token."""
    command = [sys.executable, "-m", "medseg", "serve", *map(str, arguments), "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in server.stderr or ():
            said.append(line)
            if found := re.search(r"https?://\S+/", line):
                threading.Thread(target=(server.stderr or sys.stderr).read, daemon=True).start()
                yield server, found[0]
                break
        else:
            pytest.fail("".join(said))
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def model(tmp_path: Path, tiny_plan: Plan) -> Path:
    save_model(
        tmp_path / "run" / "model",
        record_of(tiny_plan, {"box": 1}),
        build_network(1, 2, tiny_plan.architecture).state_dict(),
    )
    return tmp_path / "run"


def test_tls_and_the_end(model: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not there")
    draw(tmp_path / "data" / "ct.nii.gz")
    files = {"-keyout": tmp_path / "key.pem", "-out": tmp_path / "cert.pem"}
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(
        [*made, "-addext", "subjectAltName=IP:127.0.0.1", *(str(x) for pair in files.items() for x in pair)], check=True
    )
    tls = ("--certificate", tmp_path / "cert.pem", "--key", tmp_path / "key.pem")
    with running(model, "--data", tmp_path / "data", *tls) as (server, address):
        assert address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with httpx.Client(base_url=address, verify=trusted, timeout=60) as client:
            assert client.get("info/").json()["models"]["run"]["labels"] == {"box": 1}
            assert client.post("infer/run?image=ct&output=image").status_code == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


def test_kill_9_while_saving_leaves_the_older_or_the_newer_label_map(tmp_path: Path) -> None:
    shape = (90, 80, 60)
    draw(tmp_path / "data" / "ct.nii.gz", shape=shape)
    random = np.random.default_rng(0)
    known = [(random.random(shape) < 0.5).astype(np.uint8) for _ in range(2)]
    params = {"params": '{"label_info": [{"name": "noise", "idx": 1}]}'}
    for delay in (0.6, 0.93):
        with running("--data", tmp_path / "data") as (server, address):

            def save(address: str = address) -> None:
                with httpx.Client(base_url=address, timeout=60) as client, suppress(httpx.HTTPError):
                    for number in range(10_000):
                        content = known[number % 2].tobytes(order="F")
                        client.put("datastore/label?image=ct", data=params, files={"label": ("a.bin", content)})

            threading.Thread(target=save, daemon=True).start()
            until = time.monotonic() + 60
            while not (tmp_path / "data" / "annotations" / "final" / "ct.json").is_file() and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(delay)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        datastore = Datastore(tmp_path / "data")
        found = datastore.label_map("ct")
        assert found is not None and any(np.array_equal(found, each) for each in known)
        annotation = datastore.annotation("ct")
        assert annotation is None or annotation.voxels == {"noise": int(found.sum())}


def test_what_is_drawn_is_trained_on_beside_the_server(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs, tmp_path / "blobs")
    state = state_of(tmp_path / "blobs")
    small = ("network.features=[4,8,8]", "training.batch_size=2", "training.fit_inference=false")
    settings = tuple(part for setting in small for part in ("--set", setting))
    state.training = BackgroundTraining(state.datastore, state.models, state.device, settings)
    with client_of(app_of(state)) as client:
        started = client.post("/train/blobs", json={"max_time": "20s"}).json()
        assert started["status"] == "RUNNING"
        assert client.post("/train/blobs").status_code == 429
        assert client.get("/train/?check_if_running=true").json()["id"] == started["id"]
        until = time.monotonic() + 1200
        while client.get("/train/?check_if_running=true").status_code == 200 and time.monotonic() < until:
            assert client.get("/healthz").status_code == 200
            time.sleep(0.3)
        told = client.get("/train/").json()
        assert told["status"] == "DONE", told["details"]
        assert client.get("/info/").json()["models"]["blobs"]["type"] == "segmentation"
        assert client.post("/infer/blobs?image=blob_00&output=json").status_code == 200
        # Once more: it goes on from there, until it is stopped.
        client.post("/train/blobs", json={"max_time": "20s"})
        time.sleep(1)
        client.delete("/train/")
        while state.training.is_running and time.monotonic() < until:
            time.sleep(0.1)
        assert client.get("/train/").json()["status"] in ("STOPPED", "DONE")
