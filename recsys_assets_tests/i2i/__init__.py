"""Tests of the item-to-item methods."""
