"""Learning from preferences and rewards."""
