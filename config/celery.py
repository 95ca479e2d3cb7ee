"""Celery's settings. They follow from one decision: a message only wakes a worker up; the truth is in the ledger."""

import ssl
from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

from kombu import Exchange, Queue

from config.producers import SHARED
from config.settings import Settings

ENTRY_QUEUE = "chartpost"  # calls from other services
PRODUCER_QUEUE = "chartpost.from."  # and a producer's name: its calls
STAGE_QUEUE = "chartpost.stages"  # our own
ENTRY_TASKS = ("chartpost.upload", "chartpost.relabel")

# After this a call that was not acknowledged is delivered again, which the ledger makes harmless. It is longer than an
# entry task takes. Messages of steps are not noted as unacknowledged (worker/celery/kombu_guard.py).
VISIBILITY_TIMEOUT_SECONDS = 300
CONNECT_TIMEOUT_SECONDS = 5
SOCKET_TIMEOUT_SECONDS = 10  # must be more than the one second for which the broker connection blocks
# Few tries, since each may take as long as the socket's timeout: a frozen Redis blocks a caller for about 40 seconds.
RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.4, "interval_max": 1.0}
SECONDS_PER_DAY = 86_400


def celery_settings(redis_url: str, settings: Settings) -> dict[str, object]:
    """The settings for `app.conf.update`.

    `redis_url` is the server in use, `settings.redis.url` or the embedded one's: redis://, rediss:// or unix://, as
    the settings check it. Raises ValueError for anything else.
    """
    parts = urlsplit(redis_url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the Redis address must begin with redis://, rediss:// or unix://")
    return {
        **_connections(_address(parts), _certificates(parts), is_socket=parts.scheme == "unix"),
        **_messages(settings),
        **_worker(settings),
        "task_ignore_result": True,  # a job's outcome is stored by the job, once, under the job's id
        "task_store_errors_even_if_ignored": False,
        "task_track_started": False,
        "result_expires": settings.retention.jobs_days * SECONDS_PER_DAY,
        "result_extended": False,  # true would store the arguments, which hold patient data
    }


def _address(parts: SplitResult) -> str:
    """The address as Celery and kombu write it: sockets are `redis+socket://`, TLS options are separate settings."""
    if parts.scheme == "unix":
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"
    return urlunsplit(parts._replace(query=""))


def _certificates(parts: SplitResult) -> dict[str, object] | None:
    """TLS options for rediss://: the server's certificate is always checked, by the system's CAs or the one named."""
    if parts.scheme != "rediss":
        return None
    query = parse_qs(parts.query)
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    files: dict[str, object] = {name: query[name][0] for name in names if name in query}
    return {**files, "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


def _connections(address: str, certificates: dict[str, object] | None, *, is_socket: bool) -> dict[str, object]:
    return {
        "broker_url": address,
        "broker_use_ssl": certificates,
        "broker_connection_timeout": CONNECT_TIMEOUT_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # the default ends a worker after 48 minutes without Redis
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,  # the default acts only in every tenth interval
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "client_name": "chartpost",
            "queue_order_strategy": "round_robin",  # neither queue starves the other
            # no retry_on_timeout: a repeated LPUSH is a second message
        },
        "result_backend": address,
        "redis_backend_use_ssl": certificates,
        "redis_socket_timeout": float(SOCKET_TIMEOUT_SECONDS),  # the default is two minutes
        "redis_socket_connect_timeout": float(CONNECT_TIMEOUT_SECONDS),
        "redis_socket_keepalive": not is_socket,  # redis-py refuses it for sockets
        "redis_backend_health_check_interval": 25,
        "result_backend_transport_options": {
            "retry_policy": RETRY_POLICY,
        },
        "task_publish_retry_policy": RETRY_POLICY,
    }


def _messages(settings: Settings) -> dict[str, object]:
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        "task_default_queue": ENTRY_QUEUE,
        "task_queues": [direct_queue(name) for name in (*entry_queues(settings.producers), STAGE_QUEUE)],
        # A mistyped queue must be an error: in a new queue, messages would wait for ever.
        "task_create_missing_queues": False,
        # Exact names win over patterns, whatever their order.
        "task_routes": {
            **{name: {"queue": ENTRY_QUEUE} for name in ENTRY_TASKS},
            "chartpost.*": {"queue": STAGE_QUEUE},
        },
    }


def entry_queues(producers: Iterable[str]) -> list[str]:
    """The queues of calls from other services: the shared one, and each producer's own."""
    return [ENTRY_QUEUE, *(PRODUCER_QUEUE + name for name in producers if name != SHARED)]


def lists_of(queue: str) -> list[str]:
    """The lists of a queue in Redis: kombu has one for each priority (`Channel._q_for_pri`)."""
    return [queue + priority for priority in ("", "\x06\x163", "\x06\x166", "\x06\x169")]


def producer_of_queue(queue: str) -> str | None:
    """The producer whose own queue this is; None for any other queue."""
    return queue.removeprefix(PRODUCER_QUEUE) if queue.startswith(PRODUCER_QUEUE) else None


def machine_queue(machine: str) -> str:
    """The name of the queue of the steps that only one machine can run, since the documents lie in its folders."""
    return f"{STAGE_QUEUE}.{machine}"


def direct_queue(name: str) -> Queue:
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _worker(settings: Settings) -> dict[str, object]:
    return {
        "worker_pool": "threads",
        "worker_concurrency": settings.worker.concurrency,
        "worker_prefetch_multiplier": 1,
        # With early acknowledgement, nothing wakes the worker's loop when a task ends. Without prefetching, the next
        # message would wait for the loop's own tick. Measured with Celery 5.7.0, four threads, tasks of 0.1 s and
        # events off: 4 tasks a second instead of 39.
        "worker_disable_prefetch": False,
        "task_acks_late": False,  # no job depends on a stage's message; the entry tasks set True
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # threads cannot be stopped from outside
        "worker_soft_shutdown_timeout": 0.0,  # with threads it never ends
        "task_time_limit": None,  # threads ignore both limits; deadlines are checked wherever bytes are moved
        "task_soft_time_limit": None,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Many events for each document. A Flower that runs asks for them every five seconds.
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "worker_enable_remote_control": True,  # for Flower, `inspect` and the health check
    }
