"""Benchmarks by lm-eval's conventions, sandboxed code, rewards, and a leaderboard."""
