"""What was measured and what was seen, as it lies on disk. It knows formats; it knows no cleaning and no window."""
