"""Checks of inference components."""
