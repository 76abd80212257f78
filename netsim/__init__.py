"""Many nodes, bad networks: the simulator."""
