"""What events promise to their handlers through every release: schema, versions, catalogue."""
