// socket.io-client against the gateway: both transports, rooms, the way of a job's outcome, a fleet.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { Worker } from 'bullmq';
import Redis from 'ioredis';
import { io } from 'socket.io-client';
import { api, needsHttp, next, startEngine, startGateway, until } from '../support/harness.mjs';

const SILENCE_MS = 150;
let engine;
const open = [];

before(async () => { engine = await startEngine(); });
after(() => engine.stop());
afterEach(async () => { await Promise.all(open.splice(0).map((close) => close())); });

/** A connected socket that keeps all it hears in `heard`. */
async function connect({ http = engine.http, transports = ['websocket'] } = {}) {
  const socket = io(http, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
  open.push(() => socket.disconnect());
  socket.heard = [];
  socket.onAny((event, ...args) => socket.heard.push([event, ...args]));
  await next(socket, 'connect');
  return socket;
}

const ask = (socket, ...args) => socket.timeout(5000).emitWithAck(...args);

async function join(socket, room) {
  assert.equal((await ask(socket, 'subscribe', room)).ok, true);
  return socket;
}

function work(queue, run) {
  const worker = new Worker(queue, run, { connection: { host: engine.host, port: engine.port } });
  worker.on('error', () => {});
  open.push(() => worker.close());
}

const heardOf = (socket, event) => socket.heard.filter(([name]) => name === event).map(([, data]) => data);
/** Resolves once everything sent to `socket` before now has arrived: its own echo comes after it. */
async function settled(socket) {
  await join(socket, `echo:${socket.id}`);
  await api(engine, 'POST', `/api/rooms/echo:${socket.id}/events`, { event: 'echo', data: 1 });
  await until('the echo', () => heardOf(socket, 'echo').length > 0);
  await new Promise((resolve) => { setTimeout(resolve, SILENCE_MS); });
}

for (const [name, transports] of [['websocket', ['websocket']], ['polling', ['polling']], ['polling with upgrade', ['polling', 'websocket']]]) {
  describe(name, needsHttp, () => {
    test('a job posted over HTTP reports to the room of the job', async () => {
      const queue = `jobs-${transports.join('-')}`;
      const { body } = await api(engine, 'POST', `/api/queues/${queue}/jobs`, { name: 'n', data: { n: 4 } });
      const socket = await join(await connect({ transports }), `job:${queue}:${body.id}`);
      work(queue, async (job) => {
        await job.updateProgress(50);
        return { square: job.data.n ** 2 };
      });
      await until('the verdict', () => heardOf(socket, 'job').some(({ state }) => state === 'completed'));
      const events = heardOf(socket, 'job');
      assert.ok(events.every((event) => event.queue === queue && event.id === body.id), JSON.stringify(events));
      assert.ok(events.some(({ progress }) => progress === 50), JSON.stringify(events));
      assert.deepEqual(events.at(-1).returnvalue, { square: 16 });
    });

    test('what is published over HTTP, over Redis and by a socket reaches the room', async () => {
      const room = `mixed-${transports.join('-')}`;
      const [listener, speaker] = await Promise.all([connect({ transports }), connect({ transports })]);
      await Promise.all([join(listener, room), join(speaker, room)]);
      const posted = await api(engine, 'POST', `/api/rooms/${room}/events`, { event: 'posted', data: { n: 1 } });
      assert.ok(posted.status >= 200 && posted.status < 300, `status ${posted.status}`);
      const redis = new Redis(engine.port, engine.host);
      open.push(() => redis.disconnect());
      await redis.publish(`room:${room}`, JSON.stringify({ n: 2 }));
      assert.equal((await ask(speaker, 'publish', room, 'said', { n: 3, text: 'größer ✓' })).ok, true);
      await until('all three', () => listener.heard.length >= 3);
      const heard = Object.fromEntries(listener.heard);
      assert.deepEqual(heard, { posted: { n: 1 }, message: { n: 2 }, said: { n: 3, text: 'größer ✓' } });
    });
  });
}

test('rooms are apart, and unsubscribing ends what is heard', needsHttp, async () => {
  const [a, b] = [await join(await connect(), 'room-a'), await join(await connect(), 'room-b')];
  const say = (room, data) => api(engine, 'POST', `/api/rooms/${room}/events`, { event: 'word', data });
  await say('room-a', 1);
  await until('the word', () => heardOf(a, 'word').length === 1);
  assert.equal((await ask(a, 'unsubscribe', 'room-a')).ok, true);
  await say('room-a', 2);
  await Promise.all([settled(a), settled(b)]);
  assert.deepEqual([heardOf(a, 'word'), heardOf(b, 'word')], [[1], []]);
});

test('failed jobs tell their reason', needsHttp, async () => {
  const { body } = await api(engine, 'POST', '/api/queues/unlucky/jobs', { name: 'n', data: {} });
  const socket = await join(await connect(), `job:unlucky:${body.id}`);
  work('unlucky', async () => { throw new Error('no paper'); });
  const last = await until('the failure', () => heardOf(socket, 'job').find(({ state }) => state === 'failed'));
  assert.equal(last.failedReason, 'no paper');
});

test('the room of a queue hears of every job', needsHttp, async () => {
  const socket = await join(await connect(), 'queue:feed');
  work('feed', async (job) => job.data.n);
  const jobs = Array.from({ length: 20 }, (_, n) => ({ name: 'n', data: { n } }));
  await api(engine, 'POST', '/api/queues/feed/jobs', jobs);
  const done = () => heardOf(socket, 'job').filter(({ state }) => state === 'completed');
  await until('twenty verdicts', () => done().length === 20);
  assert.equal(new Set(done().map(({ id }) => id)).size, 20);
});

test('presence counts who is in the room', needsHttp, async () => {
  const sockets = await Promise.all([connect(), connect(), connect()]);
  await Promise.all(sockets.map((socket) => join(socket, 'hall')));
  await until('three present', async () => countOf(await ask(sockets[0], 'presence', 'hall')) === 3);
  sockets[2].disconnect();
  await until('two present', async () => countOf(await ask(sockets[0], 'presence', 'hall')) === 2);
});
const countOf = (answer) => {
  assert.equal(answer.ok, true);
  return answer.members.length;
};

test('a socket whose connection breaks comes back', needsHttp, async () => {
  const socket = await join(await connect(), 'again');
  socket.on('connect', () => socket.emit('subscribe', 'again', () => socket.emit('publish', 'again', 'back', 1)));
  socket.io.engine.close();
  await until('the word after coming back', () => heardOf(socket, 'back').length === 1);
});

test('@socket.io/redis-emitter reaches rooms, joins and disconnects', needsHttp, async () => {
  const redis = new Redis(engine.port, engine.host);
  open.push(() => redis.disconnect());
  const emitter = new Emitter(redis);
  const [a, b] = [await join(await connect(), 'club'), await connect()];
  emitter.to('club').emit('news', { n: 1 }, 'second');
  await until('the news', () => a.heard.length === 1);
  assert.deepEqual(a.heard[0], ['news', { n: 1 }, 'second']);
  emitter.emit('all', 'everyone');
  await until('the broadcast', () => heardOf(b, 'all').length === 1);
  emitter.in(b.id).socketsJoin('club');
  await until('the new member to hear', () => {
    emitter.to('club').except('nobody').emit('again', 1);
    return heardOf(b, 'again').length > 0;
  });
  const gone = next(a, 'disconnect');
  emitter.in(a.id).disconnectSockets(true);
  await gone;
});

test('two gateways on one store are one fleet', needsHttp, async () => {
  const second = await startGateway(engine);
  open.push(() => second.child.terminate());
  const [here, there] = await Promise.all([connect(), connect({ http: second.http })]);
  await Promise.all([join(here, 'fleet'), join(there, 'fleet')]);
  assert.equal((await ask(here, 'publish', 'fleet', 'hello', 'from the first')).ok, true);
  await until('the other node', () => heardOf(there, 'hello').length === 1);
  const { body } = await api(engine, 'POST', '/api/queues/far/jobs', { name: 'n', data: {} });
  await join(there, `job:far:${body.id}`);
  work('far', async () => 'done');
  const last = await until('the verdict', () => heardOf(there, 'job').find(({ state }) => state === 'completed'));
  assert.equal(last.returnvalue, 'done');
  await settled(here);
  assert.equal(heardOf(here, 'hello').length, 1);
});
