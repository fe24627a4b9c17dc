"""A synthetic subject that writes an NSD tree. It knows pictures, tuning and noise; it knows no network."""
