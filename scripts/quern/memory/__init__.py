"""What a model takes of memory: its tensors, what a context keeps, the buffers of its graph."""
