"""A shop whose orders and leads are committed together: `python shop.py migrate`, then `python shop.py runserver`."""

import os
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of an example",  # noqa: S106
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "PASSWORD": url.password,
            "HOST": url.hostname,
            "PORT": url.port,
        }
    },
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

import dispatcher  # noqa: E402
from dispatcher.django import submit  # noqa: E402


class Order(models.Model):  # noqa: DJ008
    """An order whose buyer is to be called."""

    phone_number = models.TextField()

    class Meta:
        """The names of a model outside of an app."""

        app_label = "shop"
        db_table = "shop_orders"

    def lead(self) -> dict[str, object]:
        """Return the lead of this order."""
        return {"phone_number": self.phone_number, "campaign_id": 42, "variables": {"order": str(self.pk)}}


def order(request: HttpRequest) -> HttpResponse:
    """Store an order and its lead in one transaction."""
    try:
        with transaction.atomic():
            order = Order.objects.create(phone_number=request.POST["phone_number"])
            submission = submit(order.lead(), idempotency_key=f"order-{order.pk}")
    except dispatcher.InvalidLead as refusal:
        return HttpResponse(str(refusal), status=422)
    return HttpResponse(str(submission.id), status=201)


def later(request: HttpRequest) -> HttpResponse:
    """Store an order, and its lead after the commit: an order without a lead is possible."""
    with transaction.atomic():
        order = Order.objects.create(phone_number=request.POST["phone_number"])
        transaction.on_commit(lambda: dispatcher.submit(order.lead(), idempotency_key=f"order-{order.pk}"))
    return HttpResponse(status=201)


urlpatterns = [path("orders", order), path("later-orders", later)]

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    if sys.argv[1:2] == ["migrate"]:
        with connection.schema_editor() as editor:
            editor.create_model(Order)
    else:
        execute_from_command_line(sys.argv)
