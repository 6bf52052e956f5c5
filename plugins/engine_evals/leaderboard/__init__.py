"""Compares runs and checkpoints by their scores (``engine evals leaderboard``)."""
