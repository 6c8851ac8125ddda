"""gunicorn: its configuration, what a worker imports, and the worker itself."""
