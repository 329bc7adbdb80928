"""Bulk work: what runs, what it came to, and its stop."""

from starlette.responses import Response

from dispatcher.console.visit import Visit


def show_all(visit: Visit) -> Response:
    """The newest first."""
    return visit.page("operations.html", operations=visit.desk.operations.latest())


def show(visit: Visit) -> Response:
    """One, with its progress and what was refused."""
    operation = visit.desk.operations.get(visit.id())
    return visit.page("operation.html", operation=operation, refusals=visit.desk.operations.refusals(operation.id))


def stop(visit: Visit) -> Response:
    """Do no more of it."""
    stopped = visit.desk.operations.stop(visit.id(), actor=visit.actor)
    visit.say(
        "Stopped; what was done stays done." if stopped else "It was over already.", "good" if stopped else "note"
    )
    return visit.go(f"/operations/{visit.id()}")
