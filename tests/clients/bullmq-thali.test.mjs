// BullMQ in Node on one side, Thali on the other: the same queues, both ways.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Queue, QueueEvents, Worker } from 'bullmq';
import { api, needsHttp, needsThali, startEngine, startWork, until } from '../support/harness.mjs';

let engine;
let connection;
const open = [];
const keep = (part) => {
  part.on('error', () => {});
  open.push(part);
  return part;
};

before(async () => {
  engine = await startEngine();
  connection = { host: engine.host, port: engine.port };
});
after(() => engine.stop());
afterEach(async () => { await Promise.all(open.splice(0).map((part) => part.close())); });

test("a Node producer's job runs as a command under thali work", needsHttp, async () => {
  const queue = keep(new Queue('shout', { connection }));
  const events = keep(new QueueEvents('shout', { connection }));
  await events.waitUntilReady();
  const work = startWork(engine, 'shout', ['tr', 'a-z', 'A-Z']);
  const job = await queue.add('any', { word: 'hello' });
  const result = await job.waitUntilFinished(events, 15_000);
  assert.match(JSON.stringify(result), /HELLO/);
  assert.equal((await work.terminate()).code, 0);
});

test('a failing command fails the job with its last words', needsHttp, async () => {
  const queue = keep(new Queue('doomed', { connection }));
  const work = startWork(engine, 'doomed', ['sh', '-c', 'echo out of paper >&2; exit 3']);
  const job = await queue.add('print', {}, { attempts: 2, backoff: 10 });
  await until('the job to fail', () => job.isFailed(), 15_000);
  const failed = await queue.getJob(job.id);
  assert.equal(failed.attemptsMade, 2);
  assert.match(failed.failedReason, /out of paper|exit/);
  await work.terminate();
});

test('a job posted over HTTP runs in a Node worker', needsHttp, async () => {
  const added = await api(engine, 'POST', '/api/queues/sums/jobs', { name: 'add', data: { a: 2, b: 3 }, opts: { attempts: 2 } });
  assert.equal(added.status, 201);
  keep(new Worker('sums', async ({ name, data }) => ({ name, sum: data.a + data.b }), { connection }));
  const queue = keep(new Queue('sums', { connection }));
  const job = await until('the job to complete', async () => {
    const found = await queue.getJob(added.body.id);
    return (await found?.isCompleted()) && found;
  });
  assert.deepEqual((await queue.getJob(job.id)).returnvalue, { name: 'add', sum: 5 });
  assert.equal(job.opts.attempts, 2);
});

test('an array of jobs is added in order and counted', needsHttp, async () => {
  const jobs = [1, 2, 3].map((n) => ({ name: 'n', data: { n } }));
  const added = await api(engine, 'POST', '/api/queues/bulk/jobs', jobs);
  assert.equal(added.status, 201);
  const queue = keep(new Queue('bulk', { connection }));
  assert.deepEqual((await queue.getWaiting()).map((job) => job.data.n).sort(), [1, 2, 3]);
});

test('a delayed job posted over HTTP is promoted by BullMQ', needsHttp, async () => {
  const { body } = await api(engine, 'POST', '/api/queues/later/jobs', { name: 'n', data: {}, opts: { delay: 3_600_000 } });
  const queue = keep(new Queue('later', { connection }));
  const job = await queue.getJob(body.id);
  assert.equal(await job.getState(), 'delayed');
  await job.promote();
  assert.equal(await job.getState(), 'waiting');
});

test('a body that is no job is refused with a problem that names the field', needsThali, async () => {
  const answer = await api(engine, 'POST', '/api/queues/sums/jobs', { name: 7, data: {} });
  assert.ok(answer.status >= 400 && answer.status < 500, `status ${answer.status}`);
  assert.match(JSON.stringify(answer.body), /name/);
});
