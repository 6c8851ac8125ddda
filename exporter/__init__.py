"""Offline: a checkpoint becomes ONNX towers. The only room that may import torch, transformers, optimum or onnx."""

from siglip_edge import runtime as runtime  # before onnxruntime: it reports to nobody from here on
