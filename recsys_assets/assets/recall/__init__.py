"""Recall: item-to-item lists, terms, two-tower models, and the embeddings and indexes that are made from the models."""
