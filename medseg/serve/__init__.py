"""What speaks to other programs over HTTP: MONAI Label's and nnInteractive's protocols, around medseg's parts."""
