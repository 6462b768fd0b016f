"""Methods: interactions as arrays, lists of candidates, vector search, and how good a list is."""
