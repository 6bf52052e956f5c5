"""A sandbox for model-written programs."""
