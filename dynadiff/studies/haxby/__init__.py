"""Which category a person looked at, named by painted pictures and by tuned linear classifiers. It knows no stream."""
