"""HTTP and concurrency: a Falcon app under gunicorn, one micro-batcher a tower."""
