"""Bundles of MONAI, read as data: what they say becomes a model of medseg, and none of their code is run."""
