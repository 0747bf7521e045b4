"""The code that a function reaches: its own, and that of the user's helpers, at any depth.

The digest changes where a function, class or constant changes that the code names, and
stays where nothing but comments, layout or the options of `@task` and `@flow` do.

Followed are global names, attributes of modules (`helpers.clean`), nested functions, defaults,
what a function encloses, what a decorator wraps, functions that an object holds which is called,
and classes with their bases, methods and attributes. A module is the user's where it has the same
top-level package as the function, or is neither Penstock, nor a name of the standard library, nor
in a folder called `site-packages` or `dist-packages`. Other libraries count by their version, the
standard library for nothing.

Constants count by value: numbers, strings, tuples and other things that cannot change, and lists,
dicts, sets and objects whose name is in capitals. A name that reached code assigns to (`global x`)
is state and does not count, nor does anything else whose name is in small letters.

Not seen: names made at run time (`getattr` with a string, `importlib`, `eval`), imports inside of
functions, functions registered in a table in small letters or with `singledispatch`, what is called
only through an argument, new attributes of a class, changes inside a constant after the first
look at it, data files, environment variables, C extensions, and the code of other libraries.
"""
