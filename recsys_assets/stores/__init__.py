"""Stores: what services read. Each kind of store is a module or folder that implements the protocol of `store.py`."""
