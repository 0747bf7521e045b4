"""What checkers say where they do not know the plugin."""
