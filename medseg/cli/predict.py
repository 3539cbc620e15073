"""medseg predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.cli.choosing import Cluster, Images, Registered, Spacing, workers_of
from medseg.cli.formats import FORMATS
from medseg.cli.json_output import print_json
from medseg.cli.plugins import Plugins
from medseg.cli.status import tell_by_status
from medseg.progress import counted, say

if TYPE_CHECKING:
    from medseg.prediction.result import Prediction, PredictResult


def predict(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...", help="A run that 'medseg train' made, or its model/ folder; several are an ensemble."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="What to segment: a file, a folder, a dataset, a DICOM series or study, or an address of "
            "an archive, as of 'medseg fetch'."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the masks and predictions.json; or, of one case, a file: mask.nii.gz, .seg.nrrd, .dcm.",
        ),
    ],
    images: Images = None,
    registered: Registered = False,
    spacing: Spacing = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"{FORMATS}; may be repeated. [default: nifti, and PNG or TIFF for pictures]",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(
            help="Of what networks compute: auto is what is fast on the device, fp32 gives the results of other "
            "programs to the last digits."
        ),
    ] = "auto",
    plugins: Plugins = None,
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Average over mirrored images. [default: as the model says]"),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(min=0, max=0.95, help="Of neighbouring windows, as a fraction of the patch."),
    ] = None,
    skip_air: Annotated[
        bool | None,
        typer.Option(
            "--skip-air/--no-skip-air",
            help="In CT, ask the network once about all windows of nothing but air. [default: as the model says]",
        ),
    ] = None,
    first_look: Annotated[
        bool | None,
        typer.Option(
            "--first-look/--no-first-look",
            help="For large scans: look at half the resolution first, then finely around what was found; faster, but "
            "what the first look misses is lost. [default: as the model says]",
        ),
    ] = None,
    resampling: Annotated[
        Literal["plan", "medseg"] | None,
        typer.Option(
            help="Of imported models: by the rule of where they were trained (plan), or by medseg's own, which goes "
            "smoothly from slice to slice; masks differ slightly. [default: as the model says]"
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What a case may take, as 4GB; of the GPU's memory on CUDA."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="What runs the network: torch, compile, openvino, int8 (see 'medseg quantise'), onnxruntime, or "
            "auto: OpenVINO for slow networks, where it is installed and faster, in int8 where there is that."
        ),
    ] = "auto",
    save_probabilities: Annotated[
        bool,
        typer.Option("--save-probabilities", help="Write the probability of each label and region, as NIfTI, too."),
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write the entropy of the probabilities (0 to 1), as NIfTI, too.")
    ] = False,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            help="Measure each structure: volume, surface, diameters, values of the image; as JSON for each case, and "
            "as one CSV.",
        ),
    ] = False,
    radiomics: Annotated[
        bool,
        typer.Option(
            "--radiomics",
            help="Compute radiomics features of each structure, by MIRP (pip install 'medseg[radiomics]'), as CSV.",
        ),
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write a picture of each case, too: labels over the image, as PNG.")
    ] = False,
    postprocessing: Annotated[
        bool,
        typer.Option(
            "--postprocessing/--no-postprocessing",
            help="Apply the rules that were chosen for this model: holes filled, components removed.",
        ),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Predict again what an earlier call of the same model has done.")
    ] = False,
    head: Annotated[
        int | None,
        typer.Option(min=1, help="Prune a U-Net++: answer with this head, and compute only what it needs."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Write only these labels, as liver,spleen; of a model of several members compute only what they need.",
        ),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Of a model of several members: only the one that is faster and less fine, such as TotalSegmentator's "
            "of 3 mm.",
        ),
    ] = False,
    blocks: Annotated[
        bool | None,
        typer.Option(
            "--blocks/--no-blocks",
            help="Predict a volume block by block, over the workers of a cluster too, so that it need not fit into "
            "memory. [default: OME-Zarr and NIfTI that don't]",
        ),
    ] = None,
    cluster: Cluster = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="First see whether the model gives the labels that it gave where it was trained."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of predictions.json.")] = False,
) -> None:
    """Segments scans with a trained model; masks come out on the grid of the source.

    NIfTI has the affine of the source, or its whole header; dicom-seg and rtstruct lie on the slices of a DICOM
    source and refer to them; nifti-per-label, stl and obj are a folder with a file for each structure. Every
    mask is read back by another reader and compared, and kept aside as NAME.rejected if it does not lie right. A
    case that fails is reported, the others are done, and the exit status is 1.

    Example:

        medseg predict run dicom_study -o masks

        medseg predict run scan.nii.gz -o mask.nii.gz

        medseg predict run dicom_study -o masks --format dicom-seg --format seg-nrrd
    """
    from medseg.plugins import load_plugins

    load_plugins(plugins or ())
    from medseg.workflows.predict import predict as run

    if check:
        from medseg.prediction.golden import check_models

        check_models(models, device, backend)
    with workers_of(cluster) as executor:
        result = run(
            models,
            source,
            output,
            device=device,
            precision=precision,
            mirror=tta,
            overlap=overlap,
            skip_air=skip_air,
            first_look=first_look,
            resampling=resampling,
            images=images,
            registered=registered,
            spacing=spacing,
            formats=formats or (),
            max_memory=max_memory,
            backend=backend,
            save_probabilities=save_probabilities,
            uncertainty=uncertainty,
            statistics=statistics,
            radiomics=radiomics,
            preview=preview,
            postprocessing=postprocessing,
            overwrite=overwrite,
            head=head,
            labels=None if labels is None else [name.strip() for name in labels.split(",") if name.strip()],
            fast=fast,
            blocks=blocks,
            executor=executor,
        )
    _tell(result, output, as_json)


def _tell(result: "PredictResult", output: Path, as_json: bool) -> None:
    """Tells what was predicted, what to look at, and what failed."""
    from medseg.evaluation.predictions_json import PREDICTIONS_FILE

    if as_json:
        print_json(result.record)
    elif result.predictions:
        _show_table(result.predictions)
    for prediction in result.predictions:
        for warning in prediction.warnings:
            if warning not in prediction.review_reasons:
                say(f"{prediction.case_id}: {warning}")
    for prediction in result.predictions:
        if prediction.review:
            say("\n  ".join([f"Review {prediction.case_id}:", *prediction.review_reasons]))
    written = [mask for prediction in result.predictions for mask in prediction.masks]
    n_reports = sum(mask.format.is_report for mask in written)
    if written:  # else all were done before
        and_reports = f" and {counted(n_reports, 'report')}" if n_reports else ""
        n_masks = counted(len(written) - n_reports, "mask")
        say(f"{n_masks}{and_reports} in {output}; each was read back by another reader, and is right")
    if result.problems:
        and_in = f" and {output / PREDICTIONS_FILE}" if output.is_dir() else ""
        say(f"{counted(len(result.problems), 'problem')}, see above{and_in}")
        tell_by_status([problem.is_defect for problem in result.problems])


def _show_table(predictions: "Sequence[Prediction]") -> None:
    """Prints a row a case: its volumes, in pixels for pictures, the seconds it took, its masks."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("case", overflow="fold"), "volumes", "seconds", Column("mask", overflow="fold"))
    for prediction in predictions:
        in_ml = [f"{name} {ml:.2f} ml" for name, ml in prediction.volumes_ml.items()]
        in_pixels = [f"{name} {counted(n, 'pixel')}" for name, n in prediction.voxels.items()]
        volumes = ", ".join(in_ml or in_pixels)
        table.add_row(
            prediction.case_id,
            volumes,
            f"{prediction.seconds:.1f}",
            "\n".join(mask.path.name for mask in prediction.masks),
        )
    Console(highlight=False).print(table)
