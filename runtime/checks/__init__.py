"""Is the model right on this machine, and which plan is fastest here."""
