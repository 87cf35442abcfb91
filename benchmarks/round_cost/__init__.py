"""What a round of the scheduler costs, by policy and by how many wait."""
