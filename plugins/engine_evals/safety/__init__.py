"""Refusals and profanity in continuations of harmful prompts."""
