"""doctor: what medseg runs on, and whether its parts work there."""

from medseg.diagnosis import Diagnosis, diagnose
from medseg.phantom.self_test import run_self_test


def doctor(*, self_test: bool = True) -> Diagnosis:
    """Returns versions, processor, memory and devices of this machine, and the outcome of a self-test of some seconds.

    The self-test writes a synthetic DICOM study to a temporary folder, reads it, runs a small network on it, and writes
    a mask that an independent reader then compares. Nothing stays, and nothing leaves the machine.

    Args:
        self_test: Whether to run it.

    Returns:
        A ``Diagnosis``; its ``passed`` says whether all steps of the self-test passed.

    Examples:
        >>> import medseg
        >>> medseg.doctor(self_test=False).passed
        True
    """
    return diagnose(run_self_test() if self_test else ())
