"""Drafting of a profile from the files of a new data set: what the columns hold, what they mean, and the YAML text."""
