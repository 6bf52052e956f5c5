"""Strategy ``mesh``: a grid of processes that divides the model and its batches."""
