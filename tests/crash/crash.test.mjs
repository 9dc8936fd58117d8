// kill -9 in the middle of 500 jobs: of the worker, of the gateway and API, of the store.
//
// Claims: every job whose id the API gave out ends exactly once in exactly one final state, none is
// lost, and a socket client that reconnects as browsers do, and asks again where it is told to, learns
// of each. How often a job ran twice is allowed (a killed worker's job must run again) and printed.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, afterEach, test } from 'node:test';
import { Queue } from 'bullmq';
import { io } from 'socket.io-client';
import {
  ENGINE, TESTS, api, needsHttp, next, startEngine, startRedis, startServe, startGateway, startWork, tempFolder, until,
} from '../support/harness.mjs';

const JOBS = 500;
const BATCH = 25;
/** One job in this many fails on purpose, so both final states are seen. */
const FAIL_EVERY = 10;
const KILL_AT_DONE = 120;
const SETTLE_MS = 90_000;
/** What a client waits before it asks again. */
const RETRY_MS = 100;
const FINAL = new Set(['completed', 'failed']);

const engines = [];
after(async () => { for (const engine of engines) await engine.stop(); });
const clean = [];
afterEach(async () => { for (const close of clean.splice(0).reverse()) await close(); });

/** A browser: subscribes to the room of each of its jobs, again after every reconnection. */
async function browser(engine, queue) {
  const socket = io(engine.http, { transports: ['websocket'], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
  clean.push(() => socket.disconnect());
  const verdicts = new Map();
  const mine = new Set();
  const refused = [];
  const subscribe = (id) => socket.emit('subscribe', `job:${queue}:${id}`, ({ job, error }) => {
    if (job) learn(job);
    // While the store is away the gateway says so, and that it is worth another try.
    else if (error?.retry) setTimeout(() => socket.connected && subscribe(id), RETRY_MS);
    else refused.push(`${id}: ${JSON.stringify(error)}`);
  });
  const learn = ({ id, state }) => {
    if (!FINAL.has(state)) return;
    const states = verdicts.get(id) ?? new Set();
    verdicts.set(id, states.add(state));
  };
  socket.on('job', learn);
  socket.on('connect', () => { for (const id of mine) if (!verdicts.has(id)) subscribe(id); });
  await next(socket, 'connect');
  return { verdicts, refused, follow(id) { mine.add(id); if (socket.connected) subscribe(id); } };
}

/** Adds the jobs in batches; a batch whose answer was lost is sent again, which its ids make harmless. */
async function submit(engine, queue, page) {
  const acknowledged = [];
  for (let at = 0; at < JOBS; at += BATCH) {
    const jobs = Array.from({ length: BATCH }, (_, n) => ({
      name: 'n', data: { n: at + n, fail: (at + n) % FAIL_EVERY === 0 }, opts: { jobId: `job-${at + n}` },
    }));
    const answer = await until('the API to take jobs', () => api(engine, 'POST', `/api/queues/${queue}/jobs`, jobs).then(
      (reply) => reply.status === 201 && reply,
      () => undefined,
    ), SETTLE_MS);
    const ids = Array.isArray(answer.body) ? answer.body.map(({ id }) => id) : answer.body.ids;
    assert.deepEqual(ids, jobs.map(({ opts }) => opts.jobId));
    for (const id of ids) {
      acknowledged.push(id);
      page.follow(id);
    }
  }
  return acknowledged;
}

/** Workers whose jobs note each run in a file of their working folder, the one place they may write. */
function workers(engine, queue, count) {
  const cwd = tempFolder();
  fs.copyFileSync(path.join(TESTS, 'crash/job.sh'), path.join(cwd, 'job.sh'));
  const runs = path.join(cwd, 'runs');
  fs.writeFileSync(runs, '');
  fs.chmodSync(runs, 0o666);
  const start = () => startWork(engine, queue, ['sh', 'job.sh', 'runs'], {
    cwd,
    options: ['--concurrency', '8'],
    env: { CONCURRENCY: '8', LOCK_MS: '2000', STALLED_MS: '1000' },
  });
  const running = Array.from({ length: count }, start);
  clean.push(async () => { for (const worker of running) await worker.kill9(); });
  return {
    running,
    restart() { running.push(start()); },
    runs() {
      return fs.readFileSync(runs, 'utf8').split('\n').filter(Boolean);
    },
  };
}

async function scenario(name, { kill }) {
  const engine = await startEngine({ durable: true });
  engines.push(engine);
  const queue = 'crash';
  const page = await browser(engine, queue);
  const work = workers(engine, queue, 2);
  const submitting = submit(engine, queue, page);
  await until(`${KILL_AT_DONE} runs before the kill`, () => work.runs().length >= KILL_AT_DONE, SETTLE_MS);
  await kill({ engine, work });
  const acknowledged = await submitting;

  const bull = new Queue(queue, { connection: { host: engine.host, port: engine.port } });
  bull.on('error', () => {});
  clean.push(() => bull.close());
  const counts = await until('every job to end', async () => {
    const now = await bull.getJobCounts();
    const { completed, failed, ...open } = now;
    return completed + failed > 0 && Object.values(open).every((count) => count === 0) && now;
  }, SETTLE_MS);

  const [completed, failed] = await Promise.all(['completed', 'failed'].map((state) => bull.getRanges([state], 0, -1)));
  const places = new Map();
  for (const id of [...completed, ...failed]) places.set(id, (places.get(id) ?? 0) + 1);
  assert.deepEqual(acknowledged.filter((id) => !places.has(id)), [], 'acknowledged jobs that are lost');
  assert.ok([...places.values()].every((count) => count === 1), 'a job stands in two final states');
  const unheard = () => acknowledged.filter((id) => !page.verdicts.has(id));
  await until('the browser to learn of each job', () => unheard().length === 0, 30_000)
    .catch((error) => { throw new Error(`${error.message}; not of ${unheard()}`); });
  assert.deepEqual(page.refused, [], 'rooms that were refused for good');
  const torn = acknowledged.filter((id) => page.verdicts.get(id).size !== 1);
  assert.deepEqual(torn, [], 'jobs with two verdicts');

  const runs = work.runs();
  const twice = runs.length - new Set(runs).size;
  console.log(`${name} on ${ENGINE}: ${acknowledged.length} acknowledged, ${counts.completed} completed, ` +
    `${counts.failed} failed, 0 lost, ${twice} run twice`);
}

test('a killed worker', needsHttp, () => scenario('worker killed', {
  async kill({ work }) {
    await work.running[0].kill9();
    work.restart();
  },
}));

test('a killed gateway and API', { skip: needsHttp.skip || (ENGINE === 'thali' && 'there the store goes with it: next test') }, () => scenario('gateway killed', {
  async kill({ engine }) {
    const { child, httpPort } = engine.parts.serve;
    await child.kill9();
    engine.parts.serve = await startGateway(engine, httpPort);
  },
}));

test('a killed store', needsHttp, () => scenario('store killed', {
  async kill({ engine }) {
    const held = engine.parts.store ?? engine.parts.serve;
    await held.child.kill9();
    const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
    if (engine.parts.store) engine.parts.store = await startRedis({ port: held.port, dir: held.dir, args });
    else engine.parts.serve = await startServe({ port: held.port, httpPort: held.httpPort, dir: held.dir, args });
  },
}));
