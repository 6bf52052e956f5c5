"""Steps that find copies of documents and of passages."""
