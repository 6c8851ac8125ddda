"""`siglip-edge evaluate`: compares models side by side on pictures or texts."""
