"""Inputs to embeddings and scores of one model."""
