// Bull and Bee-Queue: the older queues, each with its basic cycle.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import BeeQueue from 'bee-queue';
import Bull from 'bull';
import { next, startEngine, until } from '../support/harness.mjs';

let engine;
before(async () => { engine = await startEngine(); });
after(() => engine.stop());

test('Bull: results, failures with retries, delay and priority', async () => {
  const queue = new Bull('bull', { redis: { host: engine.host, port: engine.port } });
  try {
    const order = [];
    await queue.pause();
    const failing = await queue.add('fail', {}, { attempts: 2, backoff: 10 });
    await queue.add('log', { n: 'low' }, { priority: 10 });
    await queue.add('log', { n: 'high' }, { priority: 1 });
    await queue.add('log', { n: 'late' }, { delay: 200 });
    queue.process('log', async ({ data }) => { order.push(data.n); });
    queue.process('fail', async () => { throw new Error('always'); });
    queue.process('double', async ({ data }) => data.n * 2);
    await queue.resume();
    assert.equal(await (await queue.add('double', { n: 4 })).finished(), 8);
    await assert.rejects(failing.finished(), /always/);
    await until('three logs', () => order.length === 3);
    assert.deepEqual(order, ['high', 'low', 'late']);
    assert.equal((await queue.getJob(failing.id)).attemptsMade, 2);
    const counts = await until('nothing left', async () => {
      const now = await queue.getJobCounts();
      return now.waiting + now.active + now.delayed === 0 && now;
    });
    assert.deepEqual([counts.completed, counts.failed], [4, 1]);
  } finally {
    await queue.close();
  }
});

test('Bull: progress is heard by another connection', async () => {
  const settings = { redis: { host: engine.host, port: engine.port } };
  const [producer, worker] = [new Bull('progress', settings), new Bull('progress', settings)];
  try {
    await producer.isReady();
    const heard = next(producer, 'global:progress');
    await producer.add({});
    worker.process(async (job) => { await job.progress(40); });
    assert.equal((await heard)[1], 40);
  } finally {
    await Promise.all([producer.close(), worker.close()]);
  }
});

test('Bee-Queue: results, progress, retries and delay', async () => {
  const settings = { redis: { host: engine.host, port: engine.port }, activateDelayedJobs: true };
  const queue = new BeeQueue('bee', settings);
  try {
    let tries = 0;
    queue.process(4, async (job) => {
      if (job.data.flaky && (tries += 1) < 3) throw new Error('again');
      job.reportProgress({ at: 50 });
      return job.data.n + 1;
    });
    const job = queue.createJob({ n: 1 });
    const [done, progress] = [next(job, 'succeeded'), next(job, 'progress')];
    await job.save();
    assert.deepEqual((await progress)[0], { at: 50 });
    assert.equal((await done)[0], 2);

    const flaky = queue.createJob({ n: 5, flaky: true }).retries(3).backoff('fixed', 10);
    const finished = next(flaky, 'succeeded');
    await flaky.save();
    assert.equal((await finished)[0], 6);
    assert.equal(tries, 3);

    const late = queue.createJob({ n: 7 }).delayUntil(Date.now() + 150);
    const lateDone = next(late, 'succeeded');
    const savedAt = Date.now();
    await late.save();
    assert.equal((await lateDone)[0], 8);
    assert.ok(Date.now() - savedAt >= 140);
  } finally {
    await queue.close();
  }
});
