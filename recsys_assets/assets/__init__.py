"""Dagster: the asset definitions, one module a group."""
