"""Search of the settings that come after the networks, on what a run has made already."""
