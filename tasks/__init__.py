"""What each stage does: functions over a shard of a data set, with their settings."""
