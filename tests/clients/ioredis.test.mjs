// ioredis: pipelines, transactions, blocking reads, pub/sub, streams, scripts, scans.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import Redis from 'ioredis';
import { next, startEngine, until } from '../support/harness.mjs';

let engine;
let redis;
const open = [];
const connect = () => {
  const client = new Redis(engine.port, engine.host);
  open.push(client);
  return client;
};

before(async () => { engine = await startEngine(); });
after(() => engine.stop());
beforeEach(async () => {
  redis = connect();
  await redis.flushall();
});
afterEach(() => { for (const client of open.splice(0)) client.disconnect(); });

test('a pipeline answers in order, errors in their places', async () => {
  const replies = await redis.pipeline().set('k', 1).incr('k').lpush('k', 'x').get('k').exec();
  assert.deepEqual(replies.map(([error, value]) => (error ? error.message : value)), [
    'OK', 2, 'WRONGTYPE Operation against a key holding the wrong kind of value', '2',
  ]);
});

test('a watched key that changes aborts the transaction', async () => {
  await redis.set('balance', 10);
  await redis.watch('balance');
  await connect().incr('balance');
  assert.equal(await redis.multi().decr('balance').exec(), null);
  assert.deepEqual(await redis.multi().decr('balance').get('balance').exec(), [[null, 10], [null, '10']]);
});

test('brpop waits until another connection pushes', async () => {
  const waiting = connect().brpop('jobs', 0);
  await until('a blocked client', async () => /blocked_clients:1\b/.test(await redis.info('clients')));
  await redis.lpush('jobs', 'a');
  assert.deepEqual(await waiting, ['jobs', 'a']);
});

test('pub/sub reaches channels and patterns', async () => {
  const subscriber = connect();
  await subscriber.subscribe('news');
  await subscriber.psubscribe('new*');
  const message = next(subscriber, 'message');
  const matched = next(subscriber, 'pmessage');
  assert.equal(await redis.publish('news', 'hi'), 2);
  assert.deepEqual(await message, ['news', 'hi']);
  assert.deepEqual(await matched, ['new*', 'news', 'hi']);
});

test('a stream group hands out, holds and releases entries', async () => {
  await redis.xgroup('CREATE', 's', 'g', '$', 'MKSTREAM');
  const id = await redis.xadd('s', '*', 'kind', 'order_created');
  const [[, [[read]]]] = await redis.xreadgroup('GROUP', 'g', 'c1', 'COUNT', 10, 'STREAMS', 's', '>');
  assert.equal(read, id);
  assert.equal((await redis.xpending('s', 'g'))[0], 1);
  const [, claimed] = await redis.xautoclaim('s', 'g', 'c2', 0, '0');
  assert.deepEqual(claimed, [[id, ['kind', 'order_created']]]);
  assert.equal(await redis.xack('s', 'g', id), 1);
  assert.equal((await redis.xpending('s', 'g'))[0], 0);
});

test('a defined script runs by its digest and speaks cjson', async () => {
  redis.defineCommand('bump', {
    numberOfKeys: 1,
    lua: "local v = redis.call('incrby', KEYS[1], ARGV[1]); return cjson.encode({key = KEYS[1], value = v})",
  });
  await redis.bump('n', 2);
  assert.deepEqual(JSON.parse(await redis.bump('n', 3)), { key: 'n', value: 5 });
});

test('a scan stream sees every key once the table has grown', async () => {
  const pipeline = redis.pipeline();
  for (let n = 0; n < 2000; n += 1) pipeline.set(`user:${n}`, n);
  await pipeline.exec();
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: 'user:*', count: 50 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 2000);
});

test('binary values and expiry in milliseconds', async () => {
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await redis.set('b', bytes, 'PX', 60);
  assert.deepEqual(await redis.getBuffer('b'), bytes);
  await until('the key to expire', async () => (await redis.exists('b')) === 0, 2000);
});
