"""The points that laws are fitted to, from runs and from tables."""
