"""MongoDB: its store, the releases that services follow, and the server that the project runs itself."""
