"""Retention: partitions of old bizdates, and old runs of Dagster and MLflow, go unless something needs them."""
