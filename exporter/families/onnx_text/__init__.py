"""Text encoders read from the ONNX graphs that hubs have beside, or instead of, weights of PyTorch."""

from siglip_edge.exporter.families.onnx_text.family import OnnxTextEncoder

FAMILY = OnnxTextEncoder()
