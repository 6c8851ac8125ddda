"""Quantized SigLIP and its kin on small machines: exporter, runtime, server and command line.

The rooms are folders at the repository's top level; here are links to them. Import them by this package's name only:
`from siglip_edge.runtime import scoring`.
"""
