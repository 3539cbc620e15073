"""Makes trained folders of nnU-Net v2 with drawn weights, and predicts with them by nnU-Net's own code.

It is run by the Python of an environment with nnunetv2 (tests/peers/conftest.py), and imports nothing of medseg but
tests/nnunet_folder.py, which does neither:

    python tests/peers/nnunet_models.py make FOLDER [KIND …]      a trained folder of each kind, FOLDER/KIND/Dataset9…/…
    python tests/peers/nnunet_models.py images DATA FOLDER        real volumes in odd orientations: FOLDER/NAME.nii.gz
    python tests/peers/nnunet_models.py predict MODEL OUTPUT CASE=IMAGE[,IMAGE] … [+ MODEL OUTPUT …]
    python tests/peers/nnunet_models.py all DATA FOLDER [KIND …]  all of it: FOLDER/models, images, predictions/KIND
    python tests/peers/nnunet_models.py stages DATA FOLDER        the same of a cascade, and of an average: STAGES

A prediction of a case is ``CASE.nii.gz``, the label map as nnU-Net writes it, and ``CASE.npz`` with arrays whose axes
are the file's, (x, y, z), in spite of nnU-Net's own order: on the model grid ``prepared`` (channel, x, y, z) and
``logits`` (output, x, y, z), and ``weight``, the sum of the weights of windows; on the source grid ``source_logits``
inside of the non-zero ``box`` (3, 2), and ``source_unsure``, where these come from logits of hardly any weight. Where
nnU-Net turns images to RAS, they are in the order of RAS.
"""

# ruff: noqa: E402, SIM112

import json
import os
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # tests/

for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # read when nnunetv2 is imported
    os.environ.setdefault(variable, str(Path(tempfile.gettempdir(), "medseg-peers", variable)))
os.environ["nnUNet_compile"] = "false"
os.environ["nnUNet_def_n_proc"] = "1"  # threads that tiny networks lose time by

import nibabel as nib
import nnunet_folder
import numpy as np
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.ensembling.ensemble import average_probabilities
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

LABELS = {"background": 0, "anterior": 1, "posterior": 2}
REGIONS = {"background": 0, "hippocampus": [1, 2], "posterior": [2]}
STATISTICS = {
    "max": 1500.0, "mean": 40.0, "median": 50.0, "min": -900.0,
    "percentile_00_5": -160.0, "percentile_99_5": 240.0, "std": 70.0,
}  # fmt: skip


FEATURES = (6, 8, 12)
CUBES = [[3, 3, 3]] * 3
HALVES = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]


def architecture(dims=3, kernels=CUBES, strides=HALVES):
    """Returns the part of a plan that describes a plain network, in the form of nnU-Net 2.4 and later."""
    counts = {"n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2]}
    return nnunet_folder.architecture("PlainConvUNet", dims, kernels, strides, FEATURES, **counts)


RESIDUAL = nnunet_folder.architecture(
    "ResidualEncoderUNet", 3, CUBES, HALVES, FEATURES, n_blocks_per_stage=[1, 2, 2], n_conv_per_stage_decoder=[1, 1]
)

# nnU-Net imports all of its trainers to find one by its name: also those that need packages of gigabytes.
TRAINERS = {each.__name__: each for each in (trainer_module.nnUNetTrainer, nnUNetTrainerNoMirroring)}
predict_from_raw_data.recursive_find_trainer_class_by_name = TRAINERS.__getitem__

CONFIGURATION = nnunet_folder.CONFIGURATION | {
    "patch_size": [24, 32, 20],
    "median_image_size_in_voxels": [40.0, 56.0, 40.0],
    "spacing": [1.1, 0.9, 1.3],
    "normalization_schemes": ["ZScoreNormalization"],
    "architecture": architecture(),
}
COMPUTED = {
    "batch_size": 2,
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 6,
    "unet_max_num_features": 10,
    "n_conv_per_stage_encoder": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "num_pool_per_axis": [2, 2, 2],
    "pool_op_kernel_sizes": HALVES,
    "conv_kernel_sizes": CUBES,
}  # of plans older than nnU-Net 2.4, in place of "architecture"
TORCH_RESAMPLING = {
    f"resampling_fn_{of}": "resample_torch_fornnunet" for of in ("data", "seg", "probabilities")
} | {
    "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False},
    "resampling_fn_seg_kwargs": {"is_seg": True, "force_separate_z": False, "memefficient_seg_resampling": False},
    "resampling_fn_probabilities_kwargs": {
        "is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False,
    },
}  # fmt: skip
THICK_SLICES = {
    "patch_size": [14, 48, 40],
    "spacing": [4.0, 1.7, 1.9],
    "normalization_schemes": ["CTNormalization"],
    "architecture": architecture(3, nnunet_folder.KERNELS, nnunet_folder.STRIDES),
}

# nnU-Net sums logits and weights in half precision: at the corners of an image, where windows weigh less, no digits are
# left of them.
LEAST_WEIGHT = 1e-4

# Of each kind: what is different from the plan above (configuration), of the whole plans file (plans), of dataset.json
# (dataset), how many folds, the axes that are mirrored (none: predictions take an eighth of the time), and the images
# that it is tried on.
KINDS = {
    "isotropic": {"mirrored": (0, 1, 2), "images": ["mr", "mr_tilted"]},
    "separate_z": {
        "configuration": THICK_SLICES,
        "dataset": {"channel_names": {"0": "CT"}},
        "images": ["ct", "ct_psl"],
    },
    "flat": {
        "name": "2d",
        "mirrored": (1,),
        "plans": {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]},
        "configuration": {
            "patch_size": [40, 32],
            "spacing": [0.8, 0.9],
            "architecture": architecture(2),
        },
    },
    "residual": {
        "mirrored": (0, 2),
        "plans": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
        "configuration": {"architecture": RESIDUAL},
    },
    "regions": {"dataset": {"labels": REGIONS, "regions_class_order": [1, 2]}},
    "ignore": {"dataset": {"labels": LABELS | {"ignore": 3}}},
    "two_channels": {
        "configuration": {
            "normalization_schemes": ["ZScoreNormalization", "NoNormalization"],
            "use_mask_for_norm": [True, False],
        },
        "dataset": {"channel_names": {"0": "T1", "1": "noNorm"}},
        "images": ["masked"],
    },
    "two_folds": {"folds": 2},
    "old_plans": {
        "configuration": COMPUTED,
        "plans": {"transpose_forward": [0, 2, 1], "transpose_backward": [0, 2, 1]},
    },
    "no_mirroring": {"trainer": "nnUNetTrainerNoMirroring"},
    "torch_resampling": {"configuration": TORCH_RESAMPLING},
    "reoriented": {"plans": {"image_reader_writer": "NibabelIOWithReorient"}, "images": ["mr", "mr_tilted"]},
    "inherited": {"name": "3d_fullres_bs4", "inherits": True},
}  # fmt: skip

# Configurations of one plan. Only one axis of the finer one is resampled: along several, two labels of the stage before
# have equal shares in some voxels but for the rounding of float64, by which nnU-Net decides there.
# Of "masked_0", what lies outside of the image is a label of its own while the masks are resampled.
STAGES = {
    "3d_lowres": CONFIGURATION | {"spacing": [2.2, 1.8, 2.6], "patch_size": [16, 24, 16], "use_mask_for_norm": [True]},
    "3d_fullres": CONFIGURATION | {"spacing": [1.0, 2.0, 1.0], "use_mask_for_norm": [True]},
    "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
}
STAGED = ("mr", "mr_tilted", "masked_0")  # images
STAGES["3d_lowres"]["next_stage"] = "3d_cascade_fullres"


def written_plans(kind):
    """Returns the content of plans.json and of dataset.json, and the configuration's name."""
    said = KINDS[kind]
    configuration = deepcopy(CONFIGURATION) | said.get("configuration", {})
    if "UNet_class_name" in configuration:
        del configuration["architecture"]
    name = said.get("name", "3d_fullres")
    configurations = {name: configuration}
    if said.get("inherits"):
        configurations = {"3d_fullres": configuration, name: {"inherits_from": "3d_fullres", "batch_size": 4}}
    number = 900 + list(KINDS).index(kind)
    plans, dataset = around(f"Dataset{number}_{kind}", configurations, said.get("plans", {}), said.get("dataset", {}))
    if "UNet_class_name" in configuration:  # nnU-Net's trainer asks for the newer name, too
        plans["foreground_intensity_properties_per_modality"] = plans["foreground_intensity_properties_per_channel"]
    return plans, dataset, name


def around(name, configurations, plans=None, dataset=None):
    """Returns the content of plans.json and of dataset.json for configurations, with changes of both."""
    dataset = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": 3, "file_ending": ".nii.gz"} | (
        dataset or {}
    )
    whole = nnunet_folder.plans(
        dataset_name=name,
        original_median_spacing_after_transp=[1.0, 1.0, 1.0],
        original_median_shape_after_transp=[36, 50, 35],
        experiment_planner_used="ExperimentPlanner",
        foreground_intensity_properties_per_channel=dict.fromkeys(dataset["channel_names"], STATISTICS),
    )
    return whole | {"configurations": configurations, **(plans or {})}, dataset


def draw_weights(network, seed):
    """Draws all weights of a network, those of the norms too, so that none is at a value that hides a fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                gain = 16.0 if "seg_layers" in name else 2.0
                weight.copy_(noise * (gain / weight[0].numel()) ** 0.5)
            else:
                weight.copy_(0.2 * noise + float(".norm.weight" in name))


def balance_outputs(network, noise):
    """Shifts the heads so that each output wins somewhere: a label map of one label would hide most faults."""
    with torch.no_grad():
        for head, logits in zip(network.decoder.seg_layers, network(noise)[::-1], strict=True):
            head.bias -= logits.flatten(2).mean(dim=(0, 2))


def make(folder, kind):
    """Writes a trained folder by nnU-Net's own trainer, and returns its path."""
    plans, dataset, configuration = written_plans(kind)
    name = KINDS[kind].get("trainer", "nnUNetTrainer")
    model = folder / kind / plans["dataset_name"] / f"{name}__nnUNetPlans__{configuration}"
    for fold in range(KINDS[kind].get("folds", 1)):
        trainer = trainer_of(plans, dataset, configuration, name, fold)
        trainer.inference_allowed_mirroring_axes = KINDS[kind].get("mirrored")
        noise = set_weights(trainer, 100 * list(KINDS).index(kind) + fold)
        if kind == "isotropic":
            take_a_step(trainer, noise)
        write_fold(trainer, model, plans, dataset)
    return model


def make_stages(folder):
    """Writes a trained folder of each of STAGES, and returns their paths by their names."""
    plans, dataset = around("Dataset950_stages", STAGES)
    models = {name: folder / plans["dataset_name"] / f"nnUNetTrainer__nnUNetPlans__{name}" for name in STAGES}
    for seed, (name, model) in enumerate(models.items()):
        trainer = trainer_of(plans, dataset, name)
        trainer.inference_allowed_mirroring_axes = None
        set_weights(trainer, 2000 + seed)
        write_fold(trainer, model, plans, dataset)
    return models


def trainer_of(plans, dataset, configuration, name="nnUNetTrainer", fold=0):
    """Returns one of nnU-Net's trainers with its network, and without images."""
    trainer_module.infer_dataset_class = lambda folder: None  # there is no preprocessed folder
    plans = deepcopy(plans) | {"continue_training": False}
    trainer = TRAINERS[name](plans, configuration, fold, dataset, torch.device("cpu"))
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    return trainer


def set_weights(trainer, seed):
    """Draws the weights of a trainer's network so that each output wins somewhere in noise, which it returns."""
    draw_weights(trainer.network, seed)
    shape = (1, trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    balance_outputs(trainer.network, noise)
    return noise


def write_fold(trainer, model, plans, dataset):
    """Writes the checkpoint of a trainer into a trained folder."""
    (model / f"fold_{trainer.fold}").mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(model / f"fold_{trainer.fold}" / "checkpoint_final.pth"))
    (model / "plans.json").write_text(json.dumps(plans, indent=2))
    (model / "dataset.json").write_text(json.dumps(dataset, indent=2))


def take_a_step(trainer, noise):
    """Takes a step of training and logs it, so that a checkpoint holds all that one holds after training."""
    sum(head.float().square().mean() for head in trainer.network(noise)).backward()
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e-4
    trainer.optimizer.step()
    trainer._best_ema = np.float64(0.5)
    for key in ("train_losses", "val_losses"):
        trainer.logger.log(key, np.float32(-0.4), 0)
    trainer.logger.log("mean_fg_dice", np.mean([0.5, 0.6]), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float32(0.5), np.float32(0.6)], 0)


def turned(image, axes):
    """Returns an image with its axes in another order and direction, such as "PIR", in the same place."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axes)))


def tilted(image, degrees=17.0):
    """Returns an image whose axes are turned away from those of the patient."""
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine)


def write_images(data, folder):
    """Writes parts of real volumes in odd orientations."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (nib.load(data / f"hippocampus/imagesTr/hippocampus_{n}.nii.gz") for n in ("001", "003"))
    scan = nib.load(data / "sarcoma/nifti/STS_001/CT_image.nii.gz")
    x, y, z = (n // 2 for n in scan.shape)
    part = scan.slicer[x - 50 : x + 45, y - 60 : y + 20, z - 12 : z + 9]
    mr = turned(first, "PIR")
    images = {"mr": mr, "mr_tilted": tilted(turned(second, "LSA")), "ct": part, "ct_psl": turned(part, "PSL")}
    values = np.asarray(mr.dataobj).astype(np.float32)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
    inside = (x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.7) ** 2 < 1
    hole = (x - 0.2) ** 2 + y**2 + z**2 < 0.05
    images["masked_0"] = nib.Nifti1Image(np.where(inside & ~hole, values + 1, 0), mr.affine)
    images["masked_1"] = nib.Nifti1Image(np.where(inside & ~hole, np.gradient(values, axis=0) / 50, 0), mr.affine)
    for name, image in images.items():
        image.set_data_dtype(np.float32)
        nib.save(image, folder / f"{name}.nii.gz")


def in_file_order(array, backward):
    """Returns (channel, x, y, z) of what nnU-Net holds as (channel, *transposed (z, y, x))."""
    stored = np.asarray(array, np.float32).transpose(0, *(1 + axis for axis in backward))  # (channel, z, y, x)
    return np.ascontiguousarray(stored.transpose(0, 3, 2, 1))


def predict(model, output, cases, previous=None):
    """Predicts cases with all folds, as nnU-Net does, and writes logits beside the label maps.

    Args:
        model: A trained folder.
        output: Where the predictions go.
        cases: Paths of the images of each case, one a channel.
        previous: Of the second stage of a cascade: the folder with the label maps of the first.
    """
    output.mkdir(parents=True, exist_ok=True)
    predictor = predictor_of(model)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    for case, images in cases.items():
        data, logits, properties = seen(predictor, images, previous and previous / f"{case}.nii.gz")
        spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
        model_spacing = (
            configuration.spacing if len(configuration.spacing) == 3 else [spacing[0], *configuration.spacing]
        )
        shape = properties["shape_after_cropping_and_before_resampling"]
        source_logits = configuration.resampling_fn_probabilities(logits, shape, model_spacing, spacing)
        weight = window_weights(predictor, data.shape[1:])
        unsure = (weight < LEAST_WEIGHT).astype(np.float32)[None]
        unsure = configuration.resampling_fn_probabilities(unsure, shape, model_spacing, spacing) > 0
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties
        )
        plans.image_reader_writer_class().write_seg(labels, str(output / f"{case}.nii.gz"), properties)
        backward = plans.transpose_backward
        box = [properties["bbox_used_for_cropping"][axis] for axis in backward][::-1]
        arrays = {"prepared": data, "logits": logits, "weight": weight[None]}
        arrays |= {"source_logits": source_logits, "source_unsure": unsure}
        np.savez(output / f"{case}.npz", box=box, **{k: in_file_order(v, backward) for k, v in arrays.items()})


def predictor_of(model):
    """Returns nnU-Net's predictor with a trained model."""
    predictor = predict_from_raw_data.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), None)
    return predictor


def seen(predictor, images, previous=None):
    """Returns what the network sees of a case, its logits, and what nnU-Net remembers of the case."""
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, labels, properties = preprocessor.run_case(
        [str(path) for path in images],
        None if previous is None else str(previous),
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.dataset_json,
    )
    if previous is not None:  # as nnU-Net's PreprocessAdapter does
        one_hot = convert_labelmap_to_one_hot(labels[0], predictor.label_manager.foreground_labels, data.dtype)
        data = np.vstack((data, one_hot))
    return data, predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)), properties


def predict_average(models, output, cases):
    """Predicts cases with several configurations, and averages their probabilities as nnUNetv2_ensemble does.

    Beside each label map lie the ``probabilities``, (output, x, y, z), in the file's order.
    """
    output.mkdir(parents=True, exist_ok=True)
    predictors = [predictor_of(model) for model in models]
    for case, images in cases.items():
        files = []
        for i, each in enumerate(predictors):
            _, logits, properties = seen(each, images)
            _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, each.plans_manager, each.configuration_manager, each.label_manager, properties, True
            )
            files.append(output / f"{case}_{i}.npz")
            np.savez(files[-1], probabilities=probabilities)
        mean = average_probabilities(files)
        labels = predictors[0].label_manager.convert_probabilities_to_segmentation(mean)
        writer = predictors[0].plans_manager.image_reader_writer_class()
        writer.write_seg(labels, str(output / f"{case}.nii.gz"), properties)
        np.savez(output / f"{case}.npz", probabilities=mean.transpose(0, 3, 2, 1))


def window_weights(predictor, shape):
    """Returns the sum of the Gaussians of all windows at each voxel, of at most 10 each."""
    patch = predictor.configuration_manager.patch_size
    gaussian = predict_from_raw_data.compute_gaussian(
        tuple(patch), sigma_scale=1.0 / 8, value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu")
    )
    padded, cut = predict_from_raw_data.pad_nd_image(
        torch.zeros(1, *shape), patch, "constant", {"value": 0}, True, None
    )  # fmt: skip
    for window in predictor._internal_get_sliding_window_slicers(padded.shape[1:]):
        padded[window] += gaussian
    return padded[(slice(None), *cut[1:])][0].numpy()


def make_all(data, folder, kinds):
    """Makes models, images and predictions."""
    write_images(data, folder / "images")
    for kind in kinds:
        model = make(folder / "models", kind)
        names = KINDS[kind].get("images", ["mr_tilted"])
        cases = {name: [folder / "images" / f"{name}.nii.gz"] for name in names if name != "masked"}
        if "masked" in names:
            cases["masked"] = [folder / "images" / f"masked_{channel}.nii.gz" for channel in (0, 1)]
        predict(model, folder / "predictions" / kind, cases)


def make_all_stages(data, folder):
    """Makes the models of STAGES, images, and predictions of the cascade and of an average."""
    write_images(data, folder / "images")
    models, predictions = make_stages(folder / "models"), folder / "predictions"
    cases = {name: [folder / "images" / f"{name}.nii.gz"] for name in STAGED}
    predict(models["3d_lowres"], predictions / "3d_lowres", cases)
    predict(models["3d_cascade_fullres"], predictions / "3d_cascade_fullres", cases, predictions / "3d_lowres")
    predict_average([models["3d_lowres"], models["3d_fullres"]], predictions / "averaged", cases)


def main(command, *arguments):
    """Runs one of the commands in the docstring of this file."""
    if command == "make":
        for kind in arguments[1:] or KINDS:
            make(Path(arguments[0]), kind)
    elif command == "images":
        write_images(*map(Path, arguments))
    elif command == "predict":
        for model, output, *given in (part.split("\0") for part in "\0".join(arguments).split("\0+\0")):
            cases = dict(each.split("=", 1) for each in given)
            images = {case: [Path(path) for path in paths.split(",")] for case, paths in cases.items()}
            predict(Path(model), Path(output), images)
    elif command == "all":
        make_all(Path(arguments[0]), Path(arguments[1]), arguments[2:] or KINDS)
    elif command == "stages":
        make_all_stages(*map(Path, arguments))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
