"""Small functions, one per kind of promise: each gets the servers and the texts of its row."""
