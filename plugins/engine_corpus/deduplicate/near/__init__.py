"""Near-duplicates: MinHash bands propose pairs of documents, exact Jaccard similarity decides."""
