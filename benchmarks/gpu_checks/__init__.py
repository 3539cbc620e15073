"""What benchmarks/gpu.py checks."""

from gpu_checks import devices, prediction, training
from gpu_checks.check import CHECKS

__all__ = ["CHECKS", "devices", "prediction", "training"]
