"""What waits where nobody reads is named: in the queue and the stream of a producer without a section."""

from __future__ import annotations

import redis

from tasks.ledger.keys import PREFIX
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine
from worker.cli.commands.check.doors import check_doors


def test_what_waits_for_a_producer_that_the_settings_do_not_name_is_named(valkey: redis.Redis) -> None:
    for key in ("chartpost.from.lab", "chartpost.from.lab\x06\x169", "chartpost.from.clinic", "chartpost"):
        valkey.lpush(key, "a message")
    for key in ("intake", "intake:lab", "intake:clinic", "intake:rejected", "intake:written_wrong"):
        valkey.xadd(PREFIX + key, {"job": "{}"})
    for key in ("inbox:m", "finished", "forgotten:7", "intake:no_stream"):
        valkey.set(PREFIX + key, "")
    lab, other = check_doors(valkey, ["clinic", "shared"])
    assert not lab.ok
    assert lab.message.startswith(
        '3 messages wait in chartpost.from.lab and "chartpost.from.lab\\x06\\x169" and chartpost:intake:lab, and nobody'
    )
    assert other.message.startswith("1 message waits in chartpost:intake:written_wrong, and nobody reads there")
    assert [each.message[:9] for each in check_doors(valkey, ["lab", "written_wrong"])] == ["2 message"], "of clinic"


def test_check_says_so_while_something_waits(chartpost: CommandLine, valkey: redis.Redis) -> None:
    entry = valkey.xadd(PREFIX + "intake:lab", {"job": "{}"})
    assert [line["ok"] for line in lines_of(chartpost, "intake")] == [True, False]
    valkey.xdel(PREFIX + "intake:lab", str(entry))
    assert [line["ok"] for line in lines_of(chartpost, "intake")] == [True]
