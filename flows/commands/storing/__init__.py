"""Commands for what goes into a disk and out of it: data sets, artifacts, exports."""
