"""The command line as it follows from requests: options, parsing, help."""
