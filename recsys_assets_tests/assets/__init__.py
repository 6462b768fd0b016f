"""Tests of the assets, on small lakes, in the test's own process."""
