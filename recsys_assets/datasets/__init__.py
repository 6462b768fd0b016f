"""Ground floor: profiles of data sets, and how their sources become landing files."""
