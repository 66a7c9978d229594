"""What shall be served: deployments, their immutable revisions and the conditions they are in."""
