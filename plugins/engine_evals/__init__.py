"""Benchmarks by lm-eval's conventions, code in a sandbox, and what compares models by them."""
