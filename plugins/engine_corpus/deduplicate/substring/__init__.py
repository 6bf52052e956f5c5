"""A step that cuts passages out of documents where another document has them too."""
