"""The version of the package that is installed; below everything else, so that all may write it into their files."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("medseg")
except PackageNotFoundError:  # run from a folder of sources that was never installed
    VERSION = "unknown"
