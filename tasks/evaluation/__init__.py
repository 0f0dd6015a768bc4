"""Scores against ground truth: mIoU from a confusion matrix, average precision of instances."""
