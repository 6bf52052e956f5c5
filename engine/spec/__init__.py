"""Loading of specs: from YAML text to checked configurations."""
