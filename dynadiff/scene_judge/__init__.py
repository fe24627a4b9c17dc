"""How the judge of drawn scenes is made: its network and its training. It knows drawings, and no decoder."""
