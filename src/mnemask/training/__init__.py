"""From photographs and clips to weights."""
