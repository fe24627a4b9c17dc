"""Which cleaning a live run should have, measured by ridge on a tree and two recordings. It knows no neural network."""
