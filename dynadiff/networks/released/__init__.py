"""Weights of others under the names of our networks: Versatile Diffusion and the authors' decoder. It knows names of
tensors; it trains nothing."""
