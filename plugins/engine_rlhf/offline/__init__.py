"""Objectives that learn from records: preferences, judged answers, a teacher's distributions."""
