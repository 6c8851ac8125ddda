"""From a text to a row of token ids, and token ids to embeddings."""
