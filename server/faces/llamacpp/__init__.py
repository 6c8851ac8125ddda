"""The embedding and reranking API of llama.cpp's server, which Frigate uses for its semantic search."""
