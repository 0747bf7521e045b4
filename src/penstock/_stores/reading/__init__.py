"""What is read of runs: arguments become queries, and rows become records, once for all readers."""
