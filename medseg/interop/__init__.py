"""Models in the formats of other programs: ONNX, MONAI's bundles."""
