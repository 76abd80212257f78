"""Published results of decentralised learning, repeated: their method on their split, and gossip."""
