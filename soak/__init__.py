"""What a node has to bear, and for how long: floods, faults, fuzzed frames. Run as `python -m soak`."""
