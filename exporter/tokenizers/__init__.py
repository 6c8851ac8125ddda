"""Packed tokenizers and the texts that prove them."""
