"""Tokenizers from memory-mapped files: the ids of a `tokenizer.json`, without the library's copy of its vocabulary."""
