"""What stands around the two planes: the one-machine set-up, images, charts and dashboards."""
