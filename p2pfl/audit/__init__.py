"""What a model that a node sends tells of the pictures that it was trained on: attacks to judge that by."""
