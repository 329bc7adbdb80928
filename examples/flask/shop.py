"""A shop whose orders and leads are committed together: `flask --app shop run`."""

import os

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy

import dispatcher

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
db = SQLAlchemy(app)


class Order(db.Model):
    """An order whose buyer is to be called."""

    __tablename__ = "shop_orders"
    id = db.Column(db.Integer, primary_key=True)
    phone_number = db.Column(db.Text, nullable=False)


with app.app_context():
    db.create_all()
dispatcher.warm_up()


@app.errorhandler(dispatcher.InvalidLead)
def refuse(refusal: dispatcher.InvalidLead) -> tuple[list[str], int]:
    """Answer with every bad field; the request's session is rolled back."""
    return [str(fault) for fault in refusal.errors], 422


@app.post("/orders")
def order() -> tuple[str, int]:
    """Store an order and its lead in one transaction."""
    order = Order(phone_number=request.form["phone_number"])
    db.session.add(order)
    db.session.flush()
    lead = {"phone_number": order.phone_number, "campaign_id": 42, "variables": {"order": str(order.id)}}
    submission = dispatcher.submit(lead, session=db.session, idempotency_key=f"order-{order.id}")
    db.session.commit()
    return str(submission.id), 201
