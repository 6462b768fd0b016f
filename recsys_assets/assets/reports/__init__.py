"""Evaluation: reports of recall, ranking and the funnel, and the tables and plots that assets show."""
