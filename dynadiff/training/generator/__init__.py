"""How the small generator of drawn scenes is made, stage by stage. It knows what brains say of pictures as numbers; it
trains no brain module."""
