"""Tests of the models' networks."""
