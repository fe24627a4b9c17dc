"""Dynadiff: images decoded from un-collapsed fMRI time series (Careil, Benchetrit & King, 2025, arXiv 2505.14556)."""
