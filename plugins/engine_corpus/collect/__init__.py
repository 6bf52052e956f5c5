"""Sources of documents: web pages, archives, repositories, PDF files."""
