"""Code that runs elsewhere: the run, its states and its retries stay here."""
