"""`siglip-edge evaluate`: compares model directories on labelled or captioned pictures."""
