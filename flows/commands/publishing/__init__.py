"""Commands of published labels, and of the machine that makes them unattended."""
