"""Who may do what: organizations, projects, members and API keys."""
