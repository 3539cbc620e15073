"""What a header declares against the bytes that are there, before any memory is asked for."""

import os

# No byte of a deflate stream (gzip, zlib, PNG) stands for more than this many (https://zlib.net/zlib_tech.html).
MOST_INFLATED = 1032


def check_declared_size(
    declared: int, there: int, *, ratio: int = 1, exactly: bool = False, in_memory: bool = True
) -> None:
    """Compares what a header declares with the bytes that are there, before memory is taken.

    Args:
        declared: Bytes of the voxels.
        there: Bytes of the file.
        ratio: How many bytes one of the file may stand for.
        exactly: Whether there may be no more of them, either.
        in_memory: Whether all of them will be in memory at once.

    Raises:
        ValueError: The file cannot hold what is declared. ``errors.reading`` tells the user.
        MemoryError: This machine cannot hold it.
    """
    most = there * ratio
    if declared > most or (exactly and declared != most):
        compressed = " compressed" if ratio > 1 else ""
        raise ValueError(f"{declared} bytes are declared, and {there}{compressed} ones are there")
    if in_memory and declared > memory_of_machine():
        raise MemoryError


def memory_of_machine() -> int:
    """Returns the memory of this machine in bytes."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**63  # Windows does not tell without another package
