"""Predicts what a training needs before it starts: memory, FLOPs, time, cost, and a fitting layout."""
