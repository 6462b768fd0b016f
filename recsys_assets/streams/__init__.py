"""Jobs over streams of fresh rows: an engine says which rows are new, and the step of `fresh/` takes them."""
