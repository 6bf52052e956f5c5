"""Scaling laws from runs: what a larger training's loss will be, and which size is best."""
