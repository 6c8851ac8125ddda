"""Weight-only INT4 quantization."""
