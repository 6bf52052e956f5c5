"""Configurations: of rewards, of objectives online and offline, and of evaluators."""
