"""What a run is, as data: rows, records, ids, settings, and how they are encoded."""
