"""Where models come from: files, a hub's repositories, folders of safetensors."""
