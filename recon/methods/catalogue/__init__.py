"""What is promised of every method, and the page that tells it; imports all methods."""
