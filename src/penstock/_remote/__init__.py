"""Code that runs outside of this process; the run, its states and its retries stay here."""
