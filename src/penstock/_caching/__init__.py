"""What a cache key is made of: equal work has equal keys."""
