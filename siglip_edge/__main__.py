"""`python -m siglip_edge`: the command line."""

from siglip_edge.cli.main import main

main(prog_name="siglip-edge")
