"""This process's rank, starting several processes, and detecting lost ones."""
