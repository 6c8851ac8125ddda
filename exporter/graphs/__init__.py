"""ONNX graphs on disk: written, simplified, converted."""
