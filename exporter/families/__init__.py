"""One module per family of checkpoints: the only code that knows a checkpoint's architecture."""
