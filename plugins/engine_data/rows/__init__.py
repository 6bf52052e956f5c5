"""Reads rows of files and data sets, and turns them into records."""
