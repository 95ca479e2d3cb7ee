"""What clients send is told apart from what runs inside scripts."""

from __future__ import annotations

from collections import Counter

import redis

from tests.benchmarks.command_counter import CommandParser, counting

STREAM = b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8\r\n*1\r\n$4\r\n\r\n*2\r\n$3\r\nget\r\n$1\r\na\r\n"
COUNTS = {"ping": 1, "set": 1, "get": 1}  # the value of a looks like a command


def test_commands_are_counted_however_the_bytes_come() -> None:
    for size in range(1, len(STREAM) + 1):
        counts: Counter[str] = Counter()
        parser = CommandParser(counts)
        for at in range(0, len(STREAM), size):
            parser.feed(STREAM[at : at + size])
        assert counts == COUNTS, f"in pieces of {size}"


def test_a_script_counts_as_one_command_and_the_server_counts_what_is_inside(
    valkey: redis.Redis, valkey_url: str
) -> None:
    with counting(valkey_url) as counter, redis.Redis.from_url(counter.url) as client:
        client.ping()
        before, in_all_before = counter.counts(), valkey.info("stats")["total_commands_processed"]
        client.eval("for i = 1, 10 do redis.call('SET', 'a', i) end", 0)
        with client.pipeline() as pipe:
            pipe.get("a").get("a").execute()
        assert counter.counts() - before == {"eval": 1, "multi": 1, "get": 2, "exec": 1}
        in_all = valkey.info("stats")["total_commands_processed"] - in_all_before
        assert in_all == 5 + 10 + 1  # and the INFO before
