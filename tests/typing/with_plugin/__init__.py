"""What only the plugin makes right, or wrong."""
