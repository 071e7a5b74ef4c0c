"""Training with axolotl: the objective, the precision, rows on GPUs, and what is said of it."""
