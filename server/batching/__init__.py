"""Micro-batching: rows of many requests share runs."""
