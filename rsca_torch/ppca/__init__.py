"""Step 1, masked probabilistic PCA: the model, its fit by EM, and EM under Lightning."""
