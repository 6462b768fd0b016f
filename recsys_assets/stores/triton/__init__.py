"""Triton Inference Server as a store of models: a repository in a folder, and the server that serves it."""
