"""`siglip-edge pull`: a model directory that is ready, from a hub's repository or a URL."""
