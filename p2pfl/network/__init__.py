"""How messages travel: HTTP out and in."""
