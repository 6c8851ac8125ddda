"""Settings, and the numbers of workers and batch sizes that follow from them on this machine."""
