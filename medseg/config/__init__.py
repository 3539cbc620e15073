"""What the user chose. YAML files hold overrides only; every key has its default here.

``load(files, overrides)`` merges in this order: defaults, each YAML file, each ``a.b=c``. A wrong key or value is
refused with the nearest right one.
"""

from medseg.config.reading import config_of, known_keys, load
from medseg.config.sections import (
    AugmentationConfig,
    Config,
    InferenceConfig,
    LossConfig,
    NetworkConfig,
    PlanningConfig,
    PreprocessingConfig,
    Section,
    TrainingConfig,
    TransformSpec,
)

__all__ = [
    "AugmentationConfig",
    "Config",
    "InferenceConfig",
    "LossConfig",
    "NetworkConfig",
    "PlanningConfig",
    "PreprocessingConfig",
    "Section",
    "TrainingConfig",
    "TransformSpec",
    "config_of",
    "known_keys",
    "load",
]
