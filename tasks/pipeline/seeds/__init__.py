"""Where class attention maps and saliency maps come from: the classifier, or files."""
