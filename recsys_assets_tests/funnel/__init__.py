"""Tests of the recommendation funnel."""
