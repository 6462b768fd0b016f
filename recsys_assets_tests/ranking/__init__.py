"""Tests of the comparison of rankers."""
