"""Typed connection to Redis: single server or cluster, with errors classified by how to react to them."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TIMEOUT_SECONDS = 5.0
"""Time limit for each part of a reply; a Redis that is silent for longer is down."""

_FULL = "used memory > 'maxmemory'"
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "CERTIFICATE_VERIFY_FAILED")
_PASSING = ("MISCONF", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "LOADING")
"""Temporary errors, such as a full disk, or a cluster that elects a primary."""

READ_BYTES = 2**20
"""Bytes read from a socket at once: frames arrive a tenth faster than with redis-py's 64 KiB."""

Command = Sequence[Any]
"""A command's words: text, bytes, integers."""


class RedisDownError(Exception):
    """Redis can't be reached, or can't work now. A retry may help."""


class RedisFullError(Exception):
    """Redis has no memory left for a command, and its policy is to evict nothing."""


def backoff(failures: int) -> float:
    """Seconds before a retry: doubling up to two, with jitter, so that clients don't retry all at once."""
    return random.uniform(0.5, 1.0) * min(0.05 * 2.0 ** min(failures, 10), 2.0)


class RedisConnection:
    """Pool of connections, opened when they are needed. Blocking; many threads may use it."""

    def __init__(self, url: str, password_env: str | None) -> None:
        """Doesn't connect yet. Raises RuntimeError if the password's variable isn't set."""
        self._url = url
        self._options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_read_size": READ_BYTES,
            "socket_connect_timeout": TIMEOUT_SECONDS,
        }
        if password_env is not None:
            if password_env not in os.environ:
                raise RuntimeError(f"the environment variable {password_env} is not set on this node")
            self._options["password"] = os.environ[password_env]
        self._client: Any = None
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    def execute(self, *command: Any) -> Any:
        """One command's reply. Raises RedisDownError, RedisFullError, and RuntimeError if it is refused."""
        with self._translated_errors():
            return self._connected().execute_command(*command)

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to many commands, all sent before the first is read. Raises as `execute`."""
        if not commands:
            return []
        with self._translated_errors():
            pipeline = self._pipeline()
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
            return answers

    def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The result of a Lua script. Raises as `execute`."""
        with self._translated_errors():
            return self._connected().eval(script, len(keys), *keys, *arguments)

    def scan(self, pattern: str) -> list[bytes]:
        """All keys that match the pattern, on all nodes of a cluster. Raises as `execute`; soon, once
        closed.
        """
        found = list[bytes]()
        for node in self._primaries():
            cursor: int | None = None
            while cursor != 0:
                with self._translated_errors():
                    cursor, keys = node.scan(cursor or 0, match=pattern, count=1000)
                found += keys
        return found

    def info(self, section: str) -> list[dict[str, Any]]:
        """The INFO of each primary of a cluster, or of the only server. Raises as `execute`."""
        answers = list[dict[str, Any]]()
        for node in self._primaries():
            with self._translated_errors():
                answers.append(node.info(section))
        return answers

    def close(self) -> None:
        """Close all connections, also those in use by other threads; no more are opened."""
        with self._lock:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._users and self._client is not None:
            self._client.close()
            self._client = None

    def _primaries(self) -> list[Any]:
        import redis

        with self._translated_errors():
            client = self._connected()
            if not isinstance(client, redis.RedisCluster):
                return [client]
            cluster: Any = client  # without type annotations
            return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def _connected(self) -> Any:
        if self._client is None:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            # No retries here: the caller retries, since it is told when the run stops.
            at_once = Retry(NoBackoff(), 0)
            client: Any = redis.Redis.from_url(self._url, retry=at_once, **self._options)
            if client.info("cluster").get("cluster_enabled"):
                client.close()
                client = redis.RedisCluster.from_url(self._url, **self._options)
            self._client = client
        return self._client

    def _pipeline(self) -> Any:
        import redis

        client = self._connected()
        whole = {} if isinstance(client, redis.RedisCluster) else {"transaction": False}
        return client.pipeline(**whole)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Context of a use of the connection that translates its errors."""
        from redis import exceptions as errors

        with self._lock:
            if self._closed:
                raise RedisDownError(f"the connection to Redis at {self._url} is closed")
            self._users += 1
        refused = (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError)
        down = (
            errors.ConnectionError,
            errors.TimeoutError,
            errors.ReadOnlyError,
            errors.ClusterError,
            errors.RedisClusterException,
            OSError,
        )
        try:
            yield
        except errors.InvalidResponse as error:
            raise RuntimeError(f"the server at {self._url} is not Redis: {error}") from error
        except (*refused, *down, errors.ResponseError) as error:
            reason = str(error).rpartition("caused error: ")[2]  # a pipeline's errors begin with the command
            problem = f"Redis at {self._url}: {reason}"
            if isinstance(error, errors.OutOfMemoryError) or _FULL in reason:
                raise RedisFullError(problem) from error
            if isinstance(error, refused) or any(code in reason for code in _REFUSED):
                raise RuntimeError(f"Redis at {self._url} refused a command: {reason}") from error
            if isinstance(error, down) or any(code in reason for code in _PASSING):
                raise RedisDownError(problem) from error
            raise RuntimeError(problem) from error
        finally:
            with self._lock:
                self._users -= 1
                self._let_go()
