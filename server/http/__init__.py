"""Around every request: routing, bodies, JSON, errors, headers."""
