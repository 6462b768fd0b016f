"""Tests of the servers of the user interfaces."""
