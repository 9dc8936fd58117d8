"""redis-py over RESP2 and RESP3; the port comes in STORE_PORT."""

import os
import threading
import unittest

import redis

PORT = int(os.environ["STORE_PORT"])


class Cases:
    protocol = 2

    def setUp(self):
        self.client = redis.Redis(port=PORT, protocol=self.protocol, decode_responses=True)
        self.client.flushall()
        self.addCleanup(self.client.close)

    def test_pipeline_is_a_transaction(self):
        with self.client.pipeline() as pipe:
            self.assertEqual(pipe.set("a", 1).incr("a").mget("a", "b").execute(), [True, 2, ["2", None]])

    def test_fields_of_hashes_have_times(self):
        if "hsetex" not in self.client.command():
            self.skipTest("this Redis is older than 8.0")
        self.client.hset("h", mapping={"a": 1, "b": 2, "c": 3})
        self.assertEqual(self.client.hexpire("h", 1000, "a", "x", nx=True), [1, -2])
        self.assertEqual(self.client.httl("h", "a", "b"), [1000, -1])
        self.assertEqual(self.client.hpexpireat("h", 4102444800000, "a", gt=True), [1])
        self.assertEqual(self.client.hpexpiretime("h", "a"), [4102444800000])
        self.assertEqual(self.client.hgetex("h", "a", persist=True), ["1"])
        self.assertEqual(self.client.hsetex("h", "d", 4, ex=1000), 1)
        self.assertEqual(self.client.hpersist("h", "d", "a"), [1, -1])
        self.assertEqual(self.client.hgetdel("h", "c", "x"), ["3", None])
        self.assertEqual(self.client.hexpireat("h", 1, "a", "b", "d"), [2, 2, 2])
        self.assertEqual(self.client.exists("h"), 0)

    def test_optimistic_locking_retries(self):
        self.client.set("n", 1)
        tries = []

        def bump(pipe):
            value = int(pipe.get("n"))
            tries.append(value)
            if len(tries) == 1:
                self.client.set("n", 10)
            pipe.multi()
            pipe.set("n", value + 1)

        self.client.transaction(bump, "n")
        self.assertEqual((tries, self.client.get("n")), ([1, 10], "11"))

    def test_lock_excludes_and_releases(self):
        lock = self.client.lock("resource", timeout=10)
        self.assertTrue(lock.acquire())
        self.assertFalse(self.client.lock("resource", timeout=10).acquire(blocking=False))
        lock.release()
        self.assertEqual(self.client.exists("resource"), 0)

    def test_blocking_pop_between_threads(self):
        got = []
        waiter = threading.Thread(target=lambda: got.append(self.client.blpop("q", timeout=10)))
        waiter.start()
        while self.client.info("clients")["blocked_clients"] != 1:
            pass
        self.client.rpush("q", "x")
        waiter.join()
        self.assertEqual(list(got[0]), ["q", "x"])

    def test_sliding_window_in_one_round_trip(self):
        def hit(now):
            with self.client.pipeline() as pipe:
                pipe.zremrangebyscore("hits", 0, now - 60).zadd("hits", {str(now): now})
                return pipe.zcard("hits").expire("hits", 60).execute()[2]

        self.assertEqual([hit(now) for now in (0, 30, 61, 62)], [1, 2, 2, 3])

    def test_registered_script_survives_a_flush(self):
        script = self.client.register_script("return redis.call('GET', KEYS[1]) or ARGV[1]")
        self.assertEqual(script(keys=["none"], args=["default"]), "default")
        self.client.script_flush()
        self.assertEqual(script(keys=["none"], args=["again"]), "again")

    def test_pubsub(self):
        pubsub = self.client.pubsub()
        pubsub.subscribe("c")
        self.assertEqual(pubsub.get_message(timeout=5)["type"], "subscribe")
        self.client.publish("c", "hi")
        self.assertEqual(pubsub.get_message(timeout=5)["data"], "hi")
        pubsub.close()


class Resp2(Cases, unittest.TestCase):
    protocol = 2


class Resp3(Cases, unittest.TestCase):
    protocol = 3


if __name__ == "__main__":
    unittest.main()
