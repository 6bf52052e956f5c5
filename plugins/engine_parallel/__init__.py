"""Parallel strategies on torch alone: one process, and data parallelism."""
