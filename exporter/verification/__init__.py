"""What an artifact has to pass before it is written."""
