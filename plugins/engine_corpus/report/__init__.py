"""Shows a corpus's card to people."""
