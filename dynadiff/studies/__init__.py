"""Figures and tables that a command of this project remakes, one module each."""
