"""Health, metrics, and the API's documentation."""
