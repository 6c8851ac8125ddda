"""What a caller sent, and what it is."""
