"""`siglip-edge bench` measures servers side by side in one run; the scripts here measure everything else."""
