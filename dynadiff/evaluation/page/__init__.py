"""An evaluation as one page that needs no other file and loads nothing. It knows the evaluation alone."""
