"""Tests of training, checkpoints and export."""
