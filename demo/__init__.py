"""How the demo model `emoji-siglip` is made: prepare the data, train, evaluate. README.md is its model card."""
