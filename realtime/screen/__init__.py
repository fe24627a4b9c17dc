"""What a person sees while a run is decoded. It knows pictures and text; it knows no file and no engine."""
