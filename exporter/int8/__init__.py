"""Static INT8 quantization and the search for the layers that may use it."""
