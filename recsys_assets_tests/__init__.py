"""Tests of recsys_assets."""
