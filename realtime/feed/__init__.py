"""What travels, and receiving it exactly once. It knows messages and sockets; it knows no decoder."""
