"""Stage "cold_start": samples from a template, the edges of bins, and the report."""
