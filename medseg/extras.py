"""Libraries that only some tasks need, by the extra of ``pip install 'medseg[EXTRA]'`` that brings them."""

from importlib.util import find_spec

from medseg.errors import ConfigError

MODULES = {
    "deidentify": ("dicomanonymizer",),
    "dicom-network": ("pynetdicom", "dicomweb_client"),
    "int8": ("nncf", "openvino", "onnxscript"),
    "mlflow": ("mlflow",),
    "radiomics": ("mirp",),
    "serve": ("starlette", "uvicorn", "python_multipart", "blosc2"),
    "zarr": ("zarr", "ome_zarr_models"),
}


def is_installed(extra: str) -> bool:
    """Returns whether all libraries of an extra are there; none is imported."""
    return not _lacking(extra)


def check_installed(what: str, *extras: str) -> None:
    """Checks that the libraries of extras are there.

    Args:
        what: What needs them: a command, an option or a file, for the message.
        extras: Names in ``MODULES``.

    Raises:
        ConfigError: One is not.
    """
    lacking = {extra: modules for extra in extras if (modules := _lacking(extra))}
    if lacking:
        needed = ", ".join(module for modules in lacking.values() for module in modules)
        raise ConfigError(f"{what}: needs {needed}: pip install 'medseg[{','.join(lacking)}]'")


def _lacking(extra: str) -> list[str]:
    return [module for module in MODULES[extra] if find_spec(module) is None]
