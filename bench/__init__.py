"""Measured side by side in one run: `siglip-edge bench`, and scripts for what it does not measure."""
