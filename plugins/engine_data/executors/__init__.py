"""Executors of corpora."""
