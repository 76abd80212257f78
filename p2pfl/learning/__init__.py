"""What a node does alone: data, models, training, evaluation."""
