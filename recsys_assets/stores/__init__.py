"""Stores: what the services read, each destination one file behind the protocol of `store.py`."""
