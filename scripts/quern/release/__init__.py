"""A release: a folder of quantized models with all that belongs to them, ready to upload."""
