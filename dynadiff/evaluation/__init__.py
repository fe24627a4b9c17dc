"""How good a decoder's pictures are, beside baselines, ceiling and chance. It knows models and trials, no streams."""
