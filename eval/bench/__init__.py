"""What the benchmark commands measure, a module each."""
