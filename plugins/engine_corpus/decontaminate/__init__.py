"""Finds documents that contain items of the benchmarks by which a spec scores its models."""
