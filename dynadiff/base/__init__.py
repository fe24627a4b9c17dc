"""What every package may use: errors, whole files, lists of numbers, randomness. It knows nothing of brains."""
