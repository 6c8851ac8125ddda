"""`siglip-edge evaluate`: model directories compared on labelled pictures."""
