"""What a training run takes: memory, FLOPs, minutes, GPU hours, before a GPU is rented."""
