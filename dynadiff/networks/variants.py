"""The words by which variants of the networks are named. Knows no network, so that a wrong word is told at once."""

TIMESTEP_LAYERS = ("each", "shared", "none")
AGGREGATIONS = ("out", "in", "out_mean", "in_mean", "none")
SETS = ("lora", "cross-attention", "linear", "all", "none")  # what of the U-Net learns
TARGETS = r".*\.attn2\.(to_q|to_k|to_v|to_out\.0)"  # the modules that get an adapter
