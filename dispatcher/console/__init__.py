"""The web console: the operator's seat. Server-rendered, complete without JavaScript, closed by default.

`serve` binds it, `app` builds it, `doors` lists every way in with the role that it takes, `pages` answer.
"""
