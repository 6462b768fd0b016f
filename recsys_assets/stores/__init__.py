"""Stores: what services read. Each kind of store is one module that implements the protocol of `store.py`."""
