"""What is remembered is trusted only while nobody has changed the catalog."""

from __future__ import annotations

from pullthrough.engine.pull.memory import Memory


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def read(self) -> bytes:
        return bytes([self.value])

    def bump(self) -> None:
        self.value += 1


def test_a_change_by_anybody_empties_it() -> None:
    counter = Counter()
    memory = Memory(counter)
    memory.put("key", "value", memory.stamp())
    assert memory.get("key") == "value"
    counter.bump()
    assert memory.get("key") is None


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    counter = Counter()
    memory = Memory(counter)
    stamp = memory.stamp()
    counter.bump()
    memory.put("key", "old", stamp)
    assert memory.get("key") is None


def test_it_is_bounded_and_drops_the_oldest() -> None:
    memory = Memory(Counter(), max_bytes=1000)
    for number in range(10):
        memory.put(number, number, memory.stamp(), 300)
    assert [number for number in range(10) if memory.get(number) is not None] == [7, 8, 9]
    memory.put("large", "large", memory.stamp(), 2000)
    assert memory.get("large") is None
