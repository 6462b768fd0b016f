"""Tests under `dagster dev`, used as its UI does. Their order counts: backfills, then what corrects their days."""
