"""The HTML that notebooks show of maps, networks and reports; imports nothing of ours."""
