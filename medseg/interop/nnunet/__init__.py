"""Trained models of nnU-Net v2: read without nnU-Net, and without running any code of theirs."""
