"""A stand-in for the Voicery API over real HTTP, with faults on demand and a log of the requests that it received.

`server.Sandbox` runs it in a thread, `python -m dispatcher.sandbox` as a process; `docs/sandbox.md` is its manual.
"""
