"""What preprocessing would have measured on cases that were never made."""

from medseg.fingerprint import Fingerprint, Intensities


def measured(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], n: int = 20, **rest: float
) -> Fingerprint:
    intensities = Intensities(mean=60, std=30, percentile_00_5=-20, percentile_99_5=180)
    return Fingerprint(
        n_cases=n, shapes=(shape,) * n, spacings=(spacing,) * n, intensities=(intensities,),
        cropped_part=rest.get("cropped_part", 1.0),
    )  # fmt: skip
