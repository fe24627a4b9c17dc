"""Networks that nobody here trained, as judges of pictures. They need PyTorch, know no decoder and download nothing."""
