// express-session with connect-redis: two instances share sessions, which outlive both.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createClient } from 'redis';
import { Child, TESTS, freePort, startEngine } from '../support/harness.mjs';

let engine;
before(async () => { engine = await startEngine(); });
after(() => engine.stop());

async function startInstance() {
  const port = await freePort();
  const child = new Child('session app', process.execPath, [path.join(TESTS, 'clients/session-app.mjs')], {
    env: { ...process.env, PORT: String(port), STORE_URL: engine.url },
  });
  await child.waitForLog('listening');
  return { child, visit: (route, cookie) => fetch(`http://127.0.0.1:${port}${route}`, { headers: cookie ? { cookie } : {} }) };
}

test('a session started on one instance goes on at the other and after a restart', async () => {
  const [one, two] = await Promise.all([startInstance(), startInstance()]);
  const first = await one.visit('/count');
  const cookie = first.headers.get('set-cookie').split(';')[0];
  assert.equal(await first.text(), '1');
  assert.equal(await (await two.visit('/count', cookie)).text(), '2');
  assert.equal(await (await one.visit('/count', cookie)).text(), '3');
  await Promise.all([one.child.kill9(), two.child.kill9()]);
  const three = await startInstance();
  assert.equal(await (await three.visit('/count', cookie)).text(), '4');
  assert.equal(await (await three.visit('/count')).text(), '1');
  await three.visit('/logout', cookie);
  assert.equal(await (await three.visit('/count', cookie)).text(), '1');
  await three.child.terminate();
});

test('sessions carry the time to live of their cookie', async () => {
  const app = await startInstance();
  await app.visit('/count');
  const client = await createClient({ url: engine.url }).connect();
  const keys = await client.keys('sess:*');
  assert.ok(keys.length > 0);
  const seconds = await client.ttl(keys[0]);
  assert.ok(seconds > 0 && seconds <= 3600, `ttl ${seconds}`);
  client.destroy();
  await app.child.terminate();
});
