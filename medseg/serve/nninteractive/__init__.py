"""nnInteractive's server protocol, as ``nninteractive-client`` and the extensions of 3D Slicer and napari call it.

Source: https://github.com/MIC-DKFZ/nnInteractive: SERVER_CLIENT.md, inference/server (read, not copied).
"""
