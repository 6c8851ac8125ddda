"""Losses and gains of an export, for people and programs."""
