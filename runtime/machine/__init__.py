"""CPUs, memory and the GPU: how much this process may use, and how much it uses."""
