"""TRL's own PPO, for comparison."""
