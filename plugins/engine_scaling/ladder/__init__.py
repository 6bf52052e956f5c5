"""Ladders of models: how they are planned, run and compared with what was predicted."""
