"""SigLIP and SigLIP2 checkpoints of fixed resolution."""
