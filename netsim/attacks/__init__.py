"""What adversaries do: attacks on their own data, on the models that they send, on what they claim.

An adversary is an honest node in all else: it listens, merges, exchanges and answers as the others do.
"""
