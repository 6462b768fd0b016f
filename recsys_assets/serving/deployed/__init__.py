"""Deployed towers: a named service that turns features into vectors, created, updated and rolled back by commands."""
