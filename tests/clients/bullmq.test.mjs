// BullMQ's own features, Node on both sides: the scripts, markers and event streams of its layout.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import { startEngine, until } from '../support/harness.mjs';

let engine;
let connection;
let serial = 0;
const open = [];

before(async () => {
  engine = await startEngine();
  connection = { host: engine.host, port: engine.port };
});
after(() => engine.stop());
afterEach(async () => { await Promise.all(open.splice(0).map((part) => part.close())); });

const keep = (part) => {
  part.on?.('error', () => {});
  open.push(part);
  return part;
};
const queueName = () => `q${(serial += 1)}`;
const newQueue = (name) => keep(new Queue(name, { connection }));
const newWorker = (name, run, options = {}) => keep(new Worker(name, run, { connection, ...options }));
const newEvents = async (name) => {
  const events = keep(new QueueEvents(name, { connection }));
  await events.waitUntilReady();
  return events;
};

test('a job runs once and its result reaches the producer', async () => {
  const name = queueName();
  const events = await newEvents(name);
  const job = await newQueue(name).add('double', { n: 21 });
  newWorker(name, async ({ data }) => data.n * 2);
  assert.equal(await job.waitUntilFinished(events, 10_000), 42);
});

test('progress is published in order', async () => {
  const name = queueName();
  const events = await newEvents(name);
  const heard = [];
  events.on('progress', ({ data }) => heard.push(data));
  const job = await newQueue(name).add('slow', {});
  newWorker(name, async (running) => { for (const step of [10, 60, 100]) await running.updateProgress(step); });
  await job.waitUntilFinished(events, 10_000);
  assert.deepEqual(heard, [10, 60, 100]);
});

test('failures back off, retry and end in the failed set', async () => {
  const name = queueName();
  const queue = newQueue(name);
  const runs = [];
  newWorker(name, async (job) => { runs.push(job.attemptsMade); throw new Error('no luck'); });
  const job = await queue.add('unlucky', {}, { attempts: 3, backoff: { type: 'exponential', delay: 20 } });
  await until('the job to fail for good', () => job.isFailed());
  assert.deepEqual(runs, [0, 1, 2]);
  const failed = await queue.getJob(job.id);
  assert.equal(failed.failedReason, 'no luck');
  await failed.retry();
  await until('one more run', () => runs.length === 4);
});

test('a delayed job waits for its time', async () => {
  const name = queueName();
  const queue = newQueue(name);
  let ranAt;
  newWorker(name, async () => { ranAt = Date.now(); });
  const addedAt = Date.now();
  await queue.add('later', {}, { delay: 300 });
  assert.equal(await queue.getDelayedCount(), 1);
  await until('the delayed job', () => ranAt);
  assert.ok(ranAt - addedAt >= 300, `ran after ${ranAt - addedAt} ms`);
});

test('priorities go first, equals in order of arrival', async () => {
  const name = queueName();
  const queue = newQueue(name);
  const order = [];
  await queue.addBulk([
    { name: 'c', data: {}, opts: { priority: 9 } },
    { name: 'a', data: {}, opts: { priority: 1 } },
    { name: 'b', data: {}, opts: { priority: 1 } },
    { name: 'first', data: {} },
  ]);
  newWorker(name, async (job) => { order.push(job.name); });
  await until('all four', () => order.length === 4);
  assert.deepEqual(order, ['first', 'a', 'b', 'c']);
});

test('a parent waits for its children and sees their results', async () => {
  const [parents, children] = [queueName(), queueName()];
  const flows = keep(new FlowProducer({ connection }));
  const events = await newEvents(parents);
  newWorker(children, async ({ data }) => data.part);
  newWorker(parents, async (job) => Object.values(await job.getChildrenValues()).sort().join('+'));
  const { job } = await flows.add({
    name: 'assemble',
    queueName: parents,
    children: ['wheel', 'frame', 'bell'].map((part) => ({ name: 'make', queueName: children, data: { part } })),
  });
  assert.equal(await job.waitUntilFinished(events, 10_000), 'bell+frame+wheel');
});

test('a scheduler makes a job every interval until it is removed', async () => {
  const name = queueName();
  const queue = newQueue(name);
  let runs = 0;
  newWorker(name, async () => { runs += 1; });
  await queue.upsertJobScheduler('tick', { every: 60 }, { name: 'tick', data: {} });
  await until('three ticks', () => runs >= 3);
  assert.ok(await queue.removeJobScheduler('tick'));
  assert.deepEqual(await queue.getJobSchedulers(), []);
});

test('a limiter holds the rate', async () => {
  const name = queueName();
  const starts = [];
  await newQueue(name).addBulk(Array.from({ length: 6 }, () => ({ name: 'n', data: {} })));
  newWorker(name, async () => { starts.push(Date.now()); }, { limiter: { max: 2, duration: 200 }, concurrency: 6 });
  await until('all six', () => starts.length === 6);
  assert.ok(starts[5] - starts[0] >= 350, `six jobs at two in 200 ms took ${starts[5] - starts[0]} ms`);
});

test("a dead worker's job comes back as stalled and runs again", async () => {
  const name = queueName();
  const queue = newQueue(name);
  const job = await queue.add('orphan', {});
  // Takes the job and never renews its lock, as a killed worker would.
  const dead = keep(new Worker(name, null, { connection, lockDuration: 100 }));
  assert.equal((await dead.getNextJob('token')).id, job.id);
  const events = await newEvents(name);
  let stalled;
  events.on('stalled', ({ jobId }) => { stalled = jobId; });
  newWorker(name, async () => 'rescued', { stalledInterval: 150 });
  assert.equal(await job.waitUntilFinished(events, 10_000), 'rescued');
  await until('the stalled event', () => stalled === job.id);
});

test('a deduplicated job is added once while it waits', async () => {
  const queue = newQueue(queueName());
  const options = { deduplication: { id: 'once' } };
  const first = await queue.add('n', {}, options);
  const second = await queue.add('n', {}, options);
  assert.equal(second.id, first.id);
  assert.equal(await queue.getWaitingCount(), 1);
});

test('pause, counts, clean and obliterate', async () => {
  const name = queueName();
  const queue = newQueue(name);
  await queue.pause();
  await queue.addBulk(Array.from({ length: 5 }, () => ({ name: 'n', data: {} })));
  let done = 0;
  newWorker(name, async () => { done += 1; });
  assert.equal((await queue.getJobCounts('paused')).paused + (await queue.getJobCounts('waiting')).waiting, 5);
  await queue.resume();
  await until('five done', () => done === 5);
  await until('five completed', async () => (await queue.getCompletedCount()) === 5);
  assert.equal((await queue.clean(0, 100, 'completed')).length, 5);
  await queue.obliterate({ force: true });
});

test('many jobs, four workers, each job once', async () => {
  const name = queueName();
  const runs = new Map();
  const run = async (job) => { runs.set(job.id, (runs.get(job.id) ?? 0) + 1); };
  for (let n = 0; n < 4; n += 1) newWorker(name, run, { concurrency: 10 });
  const queue = newQueue(name);
  await queue.addBulk(Array.from({ length: 1000 }, (_, n) => ({ name: 'n', data: { n } })));
  await until('a thousand runs', async () => (await queue.getCompletedCount()) === 1000, 20_000);
  assert.equal(runs.size, 1000);
  assert.ok([...runs.values()].every((count) => count === 1));
});
