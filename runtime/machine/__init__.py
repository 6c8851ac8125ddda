"""CPUs and memory: how much this process may use, and how much it uses."""
