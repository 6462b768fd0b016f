"""Forgetting of one user: where rows of the user are, how they are removed, and what cannot be reached from here."""
