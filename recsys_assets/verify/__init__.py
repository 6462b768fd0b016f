"""The comparison of a bizdate in the lake with one that is built again from landing files, in a temporary lake."""
