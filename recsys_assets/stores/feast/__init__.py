"""Feast: the snapshots of users and items as a feature repository, an offline store and an online store."""
