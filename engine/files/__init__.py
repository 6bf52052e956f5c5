"""Safe access to files that a spec or a run's folder names."""
