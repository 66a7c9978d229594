"""What was observed: events, usage and metric windows."""
