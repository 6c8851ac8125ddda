"""What an operator can set, and what follows from it on this machine."""
