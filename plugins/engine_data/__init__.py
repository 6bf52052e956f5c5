"""Data: where text comes from, what is kept of it, and how it becomes tokens."""
