"""Stages of the networks that are trained on masks: training, prediction, scores."""
