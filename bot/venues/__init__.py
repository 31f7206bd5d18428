"""Ways to a venue. The port is the same for every venue; what differs stands in the venue's own folder."""
