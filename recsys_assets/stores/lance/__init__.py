"""LanceDB: its store, and the hybrid query of vectors and terms."""
