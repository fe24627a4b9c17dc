"""From volumes to windows, whole runs and online, in numpy. It knows no files, no sockets and no pictures."""
