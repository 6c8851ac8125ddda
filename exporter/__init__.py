"""Offline: a checkpoint becomes ONNX towers. The only room that may import torch, transformers, optimum or onnx."""
