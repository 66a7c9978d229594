"""What can be served: models, their pinned versions, adapters, engine images and measured performance."""
