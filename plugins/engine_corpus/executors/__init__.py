"""Executors of corpora on several machines."""
