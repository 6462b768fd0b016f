"""Cold start: samples from a template, content of items, and methods for items that nobody has touched."""
