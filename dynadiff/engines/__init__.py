"""Who runs a trained decoder, and how one is held against another. It knows networks as three calls, and no run."""
