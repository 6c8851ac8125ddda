"""gunicorn: its configuration, its parent process, the worker class, and the app that a worker builds."""
