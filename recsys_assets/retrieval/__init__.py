"""Methods: interactions as arrays, lists of candidates, vector indexes, and how good a list is."""
