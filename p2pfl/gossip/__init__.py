"""What nodes say to each other, without any I/O."""
