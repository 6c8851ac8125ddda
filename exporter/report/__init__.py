"""What an export lost and gained, for people and programs."""
