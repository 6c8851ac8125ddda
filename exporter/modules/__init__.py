"""Torch modules that the towers of several families are made of, and their tracing. Only families import them."""
