"""One thin resource a route: parse, call, render."""
