"""Using a trained network: needs neither DeepSpeed nor FFCV nor pydantic."""
