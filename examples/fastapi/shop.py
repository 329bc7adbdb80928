"""A shop whose orders and leads are committed together: `uvicorn shop:app`."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import dispatcher

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
engine, async_engine = create_engine(URL), create_async_engine(URL)


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order whose buyer is to be called."""

    __tablename__ = "shop_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    phone_number: Mapped[str]

    def lead(self) -> dict[str, object]:
        """Return the lead of this order."""
        return {"phone_number": self.phone_number, "campaign_id": 42, "variables": {"order": str(self.id)}}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Load and connect before the first request, in each process of the server."""
    Base.metadata.create_all(engine)
    await asyncio.to_thread(dispatcher.warm_up)
    yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(dispatcher.InvalidLead)
async def refuse(_request: object, refusal: dispatcher.InvalidLead) -> None:
    """Answer with every bad field."""
    raise HTTPException(422, [str(fault) for fault in refusal.errors])


def session() -> Iterator[Session]:
    """Open the session of a request."""
    with Session(engine) as session:
        yield session


async def async_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request, for coroutines."""
    async with AsyncSession(async_engine) as session:
        yield session


@app.post("/orders", status_code=201)
def order(phone_number: str, session: Annotated[Session, Depends(session)]) -> str:
    """Store an order and its lead in one transaction."""
    order = Order(phone_number=phone_number)
    session.add(order)
    session.flush()
    submission = dispatcher.submit(order.lead(), session=session, idempotency_key=f"order-{order.id}")
    session.commit()  # here, and not after `yield`: FastAPI runs that after the answer was sent
    return str(submission.id)


@app.post("/async-orders", status_code=201)
async def async_order(phone_number: str, session: Annotated[AsyncSession, Depends(async_session)]) -> str:
    """Do the same without blocking the event loop."""
    order = Order(phone_number=phone_number)
    session.add(order)
    await session.flush()
    submission = await dispatcher.asubmit(order.lead(), session=session, idempotency_key=f"order-{order.id}")
    await session.commit()
    return str(submission.id)
