"""Tests of recall lists, vectors and indexes."""
