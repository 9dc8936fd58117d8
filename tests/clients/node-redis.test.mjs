// node-redis, over RESP2 and RESP3.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'redis';
import { startEngine, until } from '../support/harness.mjs';

let engine;
before(async () => { engine = await startEngine(); });
after(() => engine.stop());

for (const RESP of [2, 3]) {
  describe(`RESP${RESP}`, () => {
    let client;
    before(async () => {
      client = await createClient({ url: engine.url, RESP }).on('error', () => {}).connect();
      await client.flushAll();
    });
    after(() => client.close());

    test('hashes come back as objects', async () => {
      await client.hSet('user:1', { name: 'Ada', born: 1815 });
      assert.deepEqual({ ...(await client.hGetAll('user:1')) }, { name: 'Ada', born: '1815' });
      assert.equal(await client.hIncrBy('user:1', 'born', 1), 1816);
    });

    test('fields of hashes have times of their own', async (t) => {
      if ((await client.commandInfo(['HSETEX']))[0] === null) return t.skip('this Redis is older than 8.0');
      await client.hSet('session', { user: 'ada', token: 't', count: '1' });
      assert.deepEqual(await client.hExpire('session', ['token', 'none'], 1000), [1, -2]);
      assert.deepEqual(await client.hTTL('session', ['user', 'token']), [-1, 1000]);
      assert.deepEqual(await client.hGetEx('session', ['token'], { expiration: { type: 'PXAT', value: 4102444800000 } }), ['t']);
      assert.deepEqual(await client.hpExpireTime('session', ['token']), [4102444800000]);
      assert.equal(await client.hSetEx('session', { token: 'u' }, { expiration: 'KEEPTTL', mode: 'FXX' }), 1);
      assert.deepEqual(await client.hPersist('session', ['token']), [1]);
      assert.deepEqual(await client.hGetDel('session', ['count']), ['1']);
      await client.hpExpire('session', ['token'], 1);
      await until('the field to vanish', async () => (await client.hLen('session')) === 1);
      assert.deepEqual({ ...(await client.hGetAll('session')) }, { user: 'ada' });
    });

    test('sorted sets keep scores and ranks', async () => {
      await client.zAdd('board', [{ score: 1.5, value: 'a' }, { score: 3, value: 'b' }, { score: -2, value: 'c' }]);
      assert.deepEqual((await client.zRangeWithScores('board', 0, 1, { REV: true })).map((m) => [m.value, m.score]), [['b', 3], ['a', 1.5]]);
      assert.equal(await client.zRank('board', 'a'), 1);
    });

    test('a transaction answers with all its replies', async () => {
      assert.deepEqual(await client.multi().set('k', '1').incrBy('k', 4).get('k').exec(), ['OK', 5, '5']);
    });

    test('a blocking pop is woken by a push', async () => {
      const waiter = await client.duplicate().connect();
      const popped = waiter.bzPopMin('delayed', 0);
      await until('a blocked client', async () => /blocked_clients:1\b/.test(await client.info('clients')));
      await client.zAdd('delayed', { score: 7, value: 'job' });
      assert.deepEqual({ ...(await popped) }, { key: 'delayed', value: 'job', score: 7 });
      waiter.destroy();
    });

    test('pub/sub, sharded channels included', async () => {
      const subscriber = await client.duplicate().connect();
      const heard = [];
      await subscriber.subscribe('news', (message, channel) => heard.push([channel, message]));
      await subscriber.sSubscribe('shard', (message, channel) => heard.push([channel, message]));
      await client.publish('news', 'hello');
      await client.sPublish('shard', 'here');
      await until('both messages', () => heard.length === 2);
      assert.deepEqual(heard.sort(), [['news', 'hello'], ['shard', 'here']]);
      subscriber.destroy();
    });

    test('a stream read blocks until an entry arrives', async () => {
      const reader = await client.duplicate().connect();
      const read = reader.xRead({ key: 'log', id: '$' }, { BLOCK: 0 });
      await until('a blocked client', async () => /blocked_clients:1\b/.test(await client.info('clients')));
      const id = await client.xAdd('log', '*', { level: 'info' });
      const [stream] = await read;
      assert.equal(stream.messages[0].id, id);
      reader.destroy();
    });

    test('scripts return what Lua returned', async () => {
      const reply = await client.eval("return {1, 'two', {3, false}, redis.status_reply('OK')}", { keys: [], arguments: [] });
      assert.deepEqual(reply, [1, 'two', [3, null], 'OK']);
      await assert.rejects(client.eval("return redis.error_reply('MINE broke')", { keys: [], arguments: [] }), /MINE broke/);
    });
  });
}
