"""What a decode leaves behind. It knows files; it knows no engine and no feed."""
