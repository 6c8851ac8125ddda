"""What this process may use of the machine, and what it does use."""
