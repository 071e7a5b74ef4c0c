"""Training with axolotl: the objective, the precision, how rows are put on GPUs, what is said meanwhile."""
