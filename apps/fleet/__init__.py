"""What can be rented where: providers, regions, clusters, GPU pools and their prices."""
