"""Benchmarks whose answers are programs, run on their tests in the sandbox."""
