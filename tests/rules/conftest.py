"""The rules are tried on as many values as take little time, and leave no files behind."""

from hypothesis import settings

settings.register_profile("rules", deadline=None, database=None, max_examples=200)
settings.load_profile("rules")
