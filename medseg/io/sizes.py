"""What a header declares against the bytes that are there, before any memory is asked for."""

import os
from pathlib import Path

from medseg.errors import SourceError

# No byte of a deflate stream (gzip, zlib, PNG) stands for more than this many (https://zlib.net/zlib_tech.html).
MOST_INFLATED = 1032


def check_size(path: Path, declared: int, there: int, *, compressed: bool = False, exactly: bool = False) -> None:
    """Raises ``SourceError`` where ``there`` bytes cannot hold the ``declared`` ones, or aren't ``exactly`` as many, and
    where the declared ones are more than the memory of this machine."""
    most = there * MOST_INFLATED if compressed else there
    if declared > most or (exactly and declared != most):
        kind = " compressed" if compressed else ""
        raise SourceError(
            f"{path}: truncated, damaged or with a wrong header (it declares {declared} bytes, and {there}{kind} ones are "
            "there); copy or export it again"
        )
    if declared > (memory := _memory()):
        raise SourceError(
            f"{path}: takes {declared / 1e9:.1f} GB of memory, and this machine has {memory / 1e9:.1f} GB; "
            "cut it into smaller images"
        )


def _memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**63  # Windows does not tell without more packages
