"""reference/python/*.md: a page for the functions of ``medseg``, and one for each public package or module."""

import ast
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import medseg

PACKAGE = Path(medseg.__file__).parent
PACKAGES = (
    "transforms", "networks", "losses", "metrics", "inferers", "training", "training.callbacks", "dataset",
    "interactive", "io", "plugins",
)  # fmt: skip

# What a user looks for comes first: what is called, what it is made of, what it returns.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "interactive": {
        "A session": ("InteractiveSession", "load_promptable", "MaskChange"),
        "Prompts": ("Point", "Box", "Scribble", "Lasso"),
    },
    "transforms": {
        "Preprocessing, and the way back": (
            "build_preprocessing", "Preprocessing", "prepare", "Prepared", "restore", "restore_label_map", "Restoring",
            "Restored", "ModelGridRule",
        ),
        "Steps for a Compose of your own": (
            "ReadVolumed", "ClipExtremesd", "OrthogonalGridd", "ResampleToSpacingd", "NormalizeChannelsd",
            "monai_transform",
        ),
        "Augmentation of whole batches": (
            "augmentation_for", "build_augmentation", "Augmentation", "RandAffineBatch", "RandFlipBatch",
            "RandGaussianNoiseBatch", "RandGaussianBlurBatch", "RandBrightnessBatch", "RandContrastBatch",
            "RandLowResolutionBatch", "RandGammaBatch", "RandColourBatch", "RandChannelDropoutBatch", "EachSample",
            "BatchTransform",
        ),
    },
    "networks": {
        "By name": ("create_network", "build_network", "Architecture", "default_architecture", "entry_of", "Entry",
                    "NETWORKS"),
        "Classes": ("UNet", "ResidualUNet", "UNetPlusPlus", "AttentionUNet", "ClassicUNet", "TransUNet", "DynUNet"),
        "For networks of your own": ("WrappedNetwork", "Network", "Promptable"),
    },
    "losses": {
        "Losses": (
            "DiceCrossEntropyLoss", "ConnectedComponentsLoss", "BlobLoss", "SkeletonRecallLoss", "CentrelineDiceLoss",
            "TverskyCrossEntropyLoss", "DiceFocalLoss", "DistillationLoss", "ObjectLoss", "PromptedLoss",
            "PromptedObjectLoss", "create_loss", "AdaptedLoss", "loss_for", "monai_losses",
        ),
        "What they are made of": (
            "HeadsLoss", "LabelSums", "RegionSums", "Voxels", "merged", "subsampled", "in_float32",
        ),
    },
    "metrics": {
        "Functions of two masks": (
            "dice", "iou", "sensitivity", "precision", "hd", "hd95", "assd", "surface_dice", "centreline_dice",
            "match_lesions", "rand_scores",
        ),
        "In MONAI's form": (
            "DiceMetric", "IoUMetric", "SensitivityMetric", "PrecisionMetric", "HausdorffDistanceMetric",
            "HausdorffDistance95Metric", "AverageSurfaceDistanceMetric", "SurfaceDiceMetric", "CentrelineDiceMetric",
            "LesionF1Metric", "PanopticQualityMetric", "MaskMetric",
        ),
        "Several values of one pass": (
            "count_overlaps", "Overlap", "surface_distances", "SurfaceDistances", "Lesions", "RandScores",
        ),
    },
    "inferers": {
        "Sliding windows for any network": ("StreamingInferer", "PlacedSlab"),
        "Models of medseg": ("load_model", "Model", "ModelRecord", "MemoryPlan"),
    },
    "training": {
        "The loop": ("Trainer", "TrainingState", "Epoch"),
        "What is beside it": ("Callback", "Restart"),
    },
    "training.callbacks": {
        "What a run keeps": ("Checkpoint", "SaveModel", "Journal", "TensorBoard", "MLflow", "LiveTable"),
        "What changes its course": ("Validation", "EarlyStopping", "TimeBudget", "Watchdog"),
        "For callbacks of your own": ("Callback", "Restart"),
    },
    "dataset": {
        "A prepared dataset": ("PreparedDataset", "DatasetRecord"),
        "Batches of it": ("PatchSampler", "Batch", "split_fold", "Split"),
    },
    "io": {
        "Read": ("read_volume", "read_geometry", "read_segmentation", "segments_of", "image_sources", "source_of"),
        "Write": ("write_nifti", "write_mask", "format_named"),
        "What is read and written": (
            "Volume", "Geometry", "Segmentation", "Segment", "SegmentHeader", "LabelMapVolume", "ImageSource", "Found",
            "Format", "Written", "Certificate",
        ),
    },
    "plugins": {
        "Decorators": (
            "register_network", "register_loss", "register_transform", "register_optimizer", "register_schedule",
            "register_callback",
        ),
        "Loading": ("load_plugins", "registered", "Registered", "PluginError"),
    },
}  # fmt: skip

FACADE_GROUPS: dict[str, tuple[str, ...]] = {
    "From data to masks": ("inspect", "preprocess", "train", "predict", "evaluate", "demo"),
    "A person in the loop": ("InteractiveSession", "evaluate_clicks", "annotate"),
    "Beside that": (
        "import_model", "compare", "package", "quantise", "export", "view", "attention_maps", "list_networks",
        "list_models", "model_card", "doctor", "tile", "join_tiles",
    ),
    "For viewers and beside a PACS": ("serve", "study", "fetch", "send"),
    "Single steps": ("open_cluster", "load_config", "read_volume", "write_label_map", "show_progress"),
    "What goes in": ("Config", "Plan", "Labels", "PreparedDataset", "Volume", "Geometry"),
    "What comes out": (
        "Inspection", "PreprocessResult", "TrainResult", "PredictResult", "Prediction", "Evaluation", "ClicksRecord",
        "Problem",
    ),
    "Errors": (
        "MedsegError", "ConfigError", "SourceError", "GeometryError", "LabelError", "ModelError", "TrainingError",
        "OutputError", "__version__",
    ),
}  # fmt: skip

# Modules of records that the parts take, and which of their names.
RECORDS = {
    "config": (
        "Config", "TrainingConfig", "AugmentationConfig", "InferenceConfig", "NetworkConfig", "LossConfig",
        "PlanningConfig", "PreprocessingConfig", "load",
    ),
    "plan": ("Plan", "Grid", "Normalization", "Resampling", "Windows", "LearntRegion", "ObjectOutputs", "Plans"),
    "architecture": ("Architecture", "PromptChannels"),
    "fingerprint": ("Fingerprint", "Intensities", "UsualValues"),
    "device": ("choose_device", "Device"),
}  # fmt: skip

FACADE = """# medseg

The functions of the command line. They are imported when they are first used, since PyTorch and MONAI take seconds to
import.
"""


# What a page says beside the docstring of its module.
NOTES = {
    "config": "Each field is a setting: [Settings](../settings.md) has its values, default and meaning.",
    "training": "`TrainingConfig` is in [medseg.config](config.md), devices in [medseg.device](device.md).",
    "transforms": "`Plan`, `Grid` and `Normalization` are in [medseg.plan](plan.md).",
}


class PageOfApi(NamedTuple):
    """A page: its title in the navigation, its path on the site, and its text."""

    title: str
    path: str
    text: str


def pages() -> list[PageOfApi]:
    """Returns the pages in the order of the navigation."""
    found = [PageOfApi("medseg", "reference/python/medseg.md", _facade())]
    for name in (*PACKAGES, *RECORDS):
        found.append(PageOfApi(f"medseg.{name}", f"reference/python/{name.replace('.', '_')}.md", _package(name)))
    return found


def public_names(name: str) -> list[str]:
    """Returns what ``__all__`` of a package or module of medseg names."""
    return sorted(import_module(f"medseg.{name}").__all__, key=str.casefold)


def _facade() -> str:
    homes = {name: home.replace(":", ".") for name, home in medseg._HOMES.items()}
    return "\n".join([FACADE, *_grouped({f"medseg.{name}": home for name, home in homes.items()}, FACADE_GROUPS)])


def _package(name: str) -> str:
    text = ast.get_docstring(ast.parse(_source(name).read_text(encoding="utf-8"))) or ""
    groups = GROUPS[name] if name in GROUPS else {"Records and functions": RECORDS[name]}
    targets = {f"medseg.{name}.{each}": f"medseg.{name}.{each}" for names in groups.values() for each in names}
    return "\n".join([f"# medseg.{name}", "", _examples(text), "", NOTES.get(name, ""), "", *_grouped(targets, groups)])


def _grouped(targets: dict[str, str], groups: dict[str, tuple[str, ...]]) -> list[str]:
    """Returns a heading a group, and the entries below it.

    Args:
        targets: Where the object of each title is.
        groups: The last parts of the titles, by heading.
    """
    by_name = {title.rpartition(".")[2]: title for title in targets}
    parts: list[str] = []
    for heading, names in groups.items():
        parts += [f"## {heading}", "", *(_entry(by_name[name], targets[by_name[name]], 3) for name in names)]
    return parts


def _source(name: str) -> Path:
    folder = PACKAGE.joinpath(*name.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _entry(title: str, target: str, level: int) -> str:
    heading = f'      heading: "{title}"\n      toc_label: "{title.rpartition(".")[2]}"'
    return f"::: {target}\n    options:\n      heading_level: {level}\n{heading}\n"


def _examples(text: str) -> str:
    """A module's docstring in Markdown: the lines of a Python session become a block."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.lstrip().startswith(">>>") and not inside:
            lines += ["", "```pycon"]
            inside = True
        if inside and not line.strip():
            lines += ["```"]
            inside = False
        lines.append(line.strip() if inside else line)
    return "\n".join([*lines, "```"] if inside else lines)
