"""What the registry is about: values and pure functions, no I/O."""
