"""Predictions from exported models, without torch: the only door to OpenVINO and ONNX Runtime."""

from greenml.serve.predictor import Predictor, describe, is_exported, open_exported

__all__ = ["Predictor", "describe", "is_exported", "open_exported"]
