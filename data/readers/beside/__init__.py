"""What lies beside a set, for its images: saliency, class attention maps of another method, regions."""
