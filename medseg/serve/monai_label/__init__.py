"""MONAI Label's REST API, as 3D Slicer's MONAI Label module and OHIF's plugin call it.

Source: https://github.com/Project-MONAI/MONAILabel, monailabel/endpoints and plugins/slicer (read, not copied).
"""
