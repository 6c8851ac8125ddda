"""The served models and the states of their loading."""
