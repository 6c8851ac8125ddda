"""A folder per API: its schemas, resources, error body and routes. `table.py` joins the routes of all of them."""
