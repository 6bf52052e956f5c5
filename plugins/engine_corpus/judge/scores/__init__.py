"""Scores of documents: quality, toxicity, a classifier's, personal data, mentions of groups."""
