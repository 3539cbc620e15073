"""An environment with nnunetv2, in which nnU-Net's own code says what is right.

It is the Python at MEDSEG_PEERS, which ``.ci/run`` sets; else that of ``.venv-peers`` in the checkout, or of ``peers``
beside it. Without one, these tests are skipped.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = (REPOSITORY / ".venv-peers", REPOSITORY.parent / "peers")
HARNESS = Path(__file__).parent / "nnunet_models.py"


class Peer:
    """nnU-Net, in its own environment; its files lie in ``folder``."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def run(self, *commands: Sequence[object]) -> None:
        """Runs commands of nnunet_models.py at the same time, and fails where one does."""
        places = {name: str(self.folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        started = [
            subprocess.Popen(
                [str(self.python), str(HARNESS), *map(str, command)],
                env=os.environ | places | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for command in commands
        ]
        for process in started:
            output, _ = process.communicate()
            assert process.returncode == 0, output


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    given = os.environ.get("MEDSEG_PEERS")
    pythons = [Path(given)] if given else [place / "bin" / "python" for place in PLACES]
    python = next((each for each in pythons if each.is_file()), None)
    if python is None:
        pytest.skip(f"no environment with nnunetv2 at {' or '.join(map(str, pythons))}; set MEDSEG_PEERS to its Python")
    return Peer(python, tmp_path / "nnunet")
