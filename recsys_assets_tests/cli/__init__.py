"""Tests of the command `recsys`."""
