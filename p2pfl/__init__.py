"""A peer-to-peer gossip-learning node: trains on its own data, averages weights with its peers over HTTP."""

__version__ = "0.1.0"
