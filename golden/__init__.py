"""The PyTorch golden model: TFLite int8 numerics, layer jobs, ranking, and the integer reference."""
