"""Fresh items and users: rows that arrive between two releases, joined with side tables, and turned into vectors."""
