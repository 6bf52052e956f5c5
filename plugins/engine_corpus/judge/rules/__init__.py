"""Published rules for the quality of text, word lists, and the language of documents."""
