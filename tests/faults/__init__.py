"""What goes wrong in production, done on purpose. `make faults` runs it and prints a table."""
