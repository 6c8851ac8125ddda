"""Checkpoints with random weights in the shapes of families beside SigLIP, a module per family."""
