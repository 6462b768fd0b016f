"""Shared by tests: small worlds, contracts that tests inherit, servers, and generators of data."""
