"""Tests of profiles, landing, ingest and splits."""
