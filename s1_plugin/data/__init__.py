"""From questions to training data: distil a teacher, curate what it wrote."""
