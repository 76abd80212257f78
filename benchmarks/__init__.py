"""What p2pfl costs, as ratios against floors measured in the same run. `python -m benchmarks --help`."""
