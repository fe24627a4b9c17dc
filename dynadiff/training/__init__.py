"""How networks learn, stage by stage, each resumable. It knows trials and networks; it judges nothing."""
