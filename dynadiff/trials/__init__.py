"""Windows and pictures to learn from, and which are held out. It knows recordings; it knows no network."""
