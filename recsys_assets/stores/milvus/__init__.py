"""Milvus: its store, and Arrow columns as its fields."""
