"""PostgreSQL with pgvector: vectors that SQL alone can search."""
