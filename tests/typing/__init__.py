"""What type checkers say of calls: files for all of them, for those with the plugin, and without.

A right call stands in `assert_type`. A wrong one carries an ignore with the error's code, and fails
where the error is gone. `nox -s types` has mypy read them with and without the plugin, and pyright.
"""
# ruff: noqa: A005  # imports are absolute
