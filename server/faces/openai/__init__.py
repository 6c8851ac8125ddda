"""OpenAI's embeddings and models API."""
