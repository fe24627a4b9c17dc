"""Pictures and features in, numbers out. It knows no network, no file and no run."""
