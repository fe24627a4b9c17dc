"""From volumes that arrive to pictures that are shown: ingest, clean, window, decode, record. No torch here."""
