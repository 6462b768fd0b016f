"""Tests of fresh rows."""
