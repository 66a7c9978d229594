"""What people type: forms that become the documents which the services take."""
