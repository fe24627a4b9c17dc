"""The networks of a decoder, what of them learns, and their folder on disk. It knows no trials and no training."""
