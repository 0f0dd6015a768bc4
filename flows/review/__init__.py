"""The page on which people correct labels, and the server that shows it on this machine alone."""
