"""How fast models are: prompts and generated tokens against the clock, all models in turns."""
