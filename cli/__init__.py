"""The `siglip-edge` command: the only room that sees exporter, runtime and server."""
