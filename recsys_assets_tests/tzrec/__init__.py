"""Tests of TorchEasyRec's tools."""
