"""The flows of networks: training and prediction, their requests and results."""
