"""Rewards, which score answers to prompts."""
