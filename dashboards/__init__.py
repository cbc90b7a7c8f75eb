"""What people look at: the operators' console."""
