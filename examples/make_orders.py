"""Makes orders.jsonl: a few thousand varied orders of a small shop, always the same ones.

python examples/make_orders.py > examples/orders.jsonl
"""

import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

ORDERS = 4000
FIRST = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
CATALOGUE = {
    "KB-101": ("keyboard", 79.9),
    "MS-200": ("mouse", 35.0),
    "MN-270": ("27 inch monitor", 329.0),
    "HD-001": ("headset", 119.5),
    "CB-USB": ("USB-C cable", 12.5),
    "DK-055": ("docking station", 189.0),
    "LM-009": ("desk lamp", 44.95),
}
COUNTRIES = ("DE", "FR", "IT", "ES", "PL", "SE", "US", "JP")
CITIES = ("Köln", "Lyon", "Milano", "Málaga", "Łódź", "Göteborg", "Austin", "京都")
STATUSES = ("placed", "paid", "shipped", "delivered", "returned", "cancelled")
STATUS_WEIGHTS = (10, 20, 25, 38, 4, 3)
NOTES = ('gift wrap, "please"', "ring twice", "leave at the door", "büro im 2. stock", "call before delivery 📞")


def orders(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Orders in the order of their time."""
    chance = random.Random(seed)
    moment = FIRST
    for number in range(1, count + 1):
        moment += timedelta(seconds=chance.expovariate(1 / 90))
        place = min(int(chance.expovariate(0.5)), len(COUNTRIES) - 1)
        items = [_item(chance) for _ in range(chance.choices((1, 2, 3, 6), (60, 25, 12, 3))[0])]
        order: dict[str, Any] = {
            "order_id": f"o-{number:05d}",
            "customer_id": f"c-{min(int(chance.paretovariate(1.1)), 900):03d}",
            "status": chance.choices(STATUSES, STATUS_WEIGHTS)[0],
            "placed_at": moment.isoformat(timespec="seconds"),
            "total": round(sum(item["price"] * item["quantity"] for item in items), 2),
            "items": items,
            "ship_to": {"country": COUNTRIES[place], "city": CITIES[place]},
            "express": chance.random() < 0.15,
        }
        if chance.random() < 0.12:
            order["coupon"] = chance.choice(("WELCOME", "SPRING10", None))
        if chance.random() < 0.05:
            order["note"] = chance.choice(NOTES)
        yield order


def _item(chance: random.Random) -> dict[str, Any]:
    sku = chance.choice(tuple(CATALOGUE))
    name, price = CATALOGUE[sku]
    return {"sku": sku, "name": name, "quantity": chance.choices((1, 2, 5, 20), (80, 14, 5, 1))[0], "price": price}


if __name__ == "__main__":
    for one in orders(ORDERS):
        sys.stdout.write(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n")
