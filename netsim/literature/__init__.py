"""Published results of decentralised learning, repeated: the authors' own method on their split, and gossip."""
