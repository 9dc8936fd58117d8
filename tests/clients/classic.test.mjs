// examples/classic runs on the engine with nothing changed but the port.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { Child, ROOT, freePort, next, startEngine, until } from '../support/harness.mjs';

let engine;
let base;
const open = [];

before(async () => {
  engine = await startEngine();
  const port = await freePort();
  base = `http://127.0.0.1:${port}`;
  const env = { ...process.env, PORT: String(port), REDIS_PORT: String(engine.port) };
  const app = (file) => new Child(`classic ${file}`, process.execPath, [path.join(ROOT, 'examples/classic', file)], { env });
  await Promise.all([app('server.js').waitForLog('classic: http'), app('worker.js').waitForLog('worker ready')]);
});
after(async () => {
  for (const socket of open) socket.disconnect();
  await engine.stop();
});

async function login(user) {
  const socket = io(base, { transports: ['websocket'], forceNew: true });
  open.push(socket);
  await next(socket, 'connect');
  socket.heard = [];
  socket.on('order', (event) => socket.heard.push(event));
  await socket.emitWithAck('login', user);
  return socket;
}

async function order(user, item) {
  const answer = await fetch(`${base}/orders`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ user, item }),
  });
  return { status: answer.status, ...(await answer.json()) };
}

test('each user hears of their own orders only', async () => {
  const [ada, bob] = await Promise.all([login('ada'), login('bob')]);
  const [teapot, kettle] = await Promise.all([order('ada', 'teapot'), order('bob', 'kettle')]);
  assert.equal(teapot.status, 202);
  await until('both shipped', () => [ada, bob].every(({ heard }) => heard.at(-1)?.state === 'shipped'));
  assert.deepEqual(ada.heard.map(({ id, state }) => [id, state]), [[teapot.id, 'packing'], [teapot.id, 'shipped']]);
  assert.deepEqual(bob.heard.at(-1).result, { shipped: 'kettle' });
  const asked = await (await fetch(`${base}/orders/${kettle.id}`)).json();
  assert.deepEqual(asked, { id: kettle.id, state: 'completed', result: { shipped: 'kettle' } });
  assert.deepEqual(await (await fetch(`${base}/users/bob/count`)).json(), { count: 1 });
});

test('a hopeless order is tried three times and refused with its reason', async () => {
  const eve = await login('eve');
  await order('eve', 'unicorn');
  const refusal = await until('the refusal', () => eve.heard.find(({ state }) => state === 'refused'));
  assert.equal(refusal.reason, 'unicorn is sold out');
  assert.deepEqual(eve.heard.filter(({ state }) => state === 'packing').map(({ attempt }) => attempt), [1, 2, 3]);
});

test('an order without an item is turned away', async () => {
  assert.equal((await order('mallory')).status, 400);
});
