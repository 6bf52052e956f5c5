"""Rewards that check an answer against columns of its record."""
