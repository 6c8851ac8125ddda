"""Ranking, classification and image-text scores."""
