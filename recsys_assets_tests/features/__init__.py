"""Tests of the features of ranking models."""
