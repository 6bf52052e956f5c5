"""Checks of objectives: labels, windows of prepared corpora, and loops of libraries."""
