"""One folder per API spoken: schemas, resources, error renderer, routes."""
