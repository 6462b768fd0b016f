"""Comparison of trained rankers by their figures and scores: the choice of the champion, intervals, slices."""
