"""The web console for operators: rendered on the server, usable without JavaScript, login required by default.

`serve` runs it, `app` builds it with its routes and their roles, `pages` contains the endpoints.
"""
