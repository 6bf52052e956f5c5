"""Commands to use or export a model, show its data, verify resuming, and start a plugin."""
