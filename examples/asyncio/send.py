"""Submit leads from coroutines: the event loop goes on meanwhile."""

import asyncio

import dispatcher


async def main() -> None:
    """Submit a hundred leads at once, then a batch."""
    people = [{"phone_number": f"+1415555{number:04}", "campaign_id": 42} for number in range(100, 200)]
    submissions = await asyncio.gather(*(dispatcher.asubmit(person) for person in people))
    print(len(submissions), "submitted one by one")

    batch = await dispatcher.asubmit_many(people)
    print(batch.duplicates, "of the batch are duplicates of these")


asyncio.run(main())
