"""Output to a terminal: text made safe for it, and the console."""
