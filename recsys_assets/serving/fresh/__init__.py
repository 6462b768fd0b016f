"""Fresh items in the service: rows arrive by HTTP and in files, and lists hold them next to the release's items."""
