"""Everything that is said to Postgres, a file for each noun. The only package that executes SQL.

Every statement is a named constant with one sentence; every write from a state names that state, and from `sending` and
`unknown` the attempt too, in its `WHERE`. A function returns whether it happened; it never raises for "no".
"""
