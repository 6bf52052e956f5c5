"""From raw documents to a corpus: sources, rules, deduplication and decontamination."""
