"""Callbacks: experiment trackers, early stopping, the spike guard."""
