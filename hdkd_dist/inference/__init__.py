"""Using a trained network: needs neither DeepSpeed nor FFCV nor pydantic, nor, with ONNX, torch."""

from hdkd_dist.inference.predictor import Answer, Predictor, Skipped

__all__ = ["Answer", "Predictor", "Skipped"]
