"""Tasks of the library lm-eval, answered by the engine's model."""
