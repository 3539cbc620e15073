"""``import medseg``: everything is there, and nothing heavy is imported before it is used."""

import subprocess
import sys
from importlib.metadata import version

import medseg


def test_every_name_can_be_had() -> None:
    for name in (*medseg.__all__, *medseg._PARTS):
        assert getattr(medseg, name) is not None
        assert name in dir(medseg)
    assert set(medseg.__all__) == set(medseg._HOMES) - {"__version__"}
    assert medseg.__version__ == version("medseg")


def test_every_function_and_record_says_what_it_is() -> None:
    for name in medseg.__all__:
        assert (getattr(medseg, name).__doc__ or "").strip(), name


def test_the_import_is_light() -> None:
    script = "import medseg, sys; print(sorted({'torch', 'monai', 'numpy', 'rich', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
