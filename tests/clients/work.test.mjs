// How `thali work` ends: with patience on the first signal, at once on the second, and never with
// something left running.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Queue } from 'bullmq';
import { needsThali, startEngine, startWork, until } from '../support/harness.mjs';

let engine;
before(async () => { if (!needsThali.skip) engine = await startEngine(); });
after(() => engine?.stop());

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`a second ${signal} gives running jobs back at once`, needsThali, async () => {
    const queue = new Queue(`twice-${signal}`, { connection: { host: engine.host, port: engine.port } });
    const worker = startWork(engine, queue.name, ['sh', '-c', "trap '' TERM INT; sleep 600"], { options: ['--timeout', '600s', '--grace', '600s'] });
    await worker.waitForLog('working');
    const job = await queue.add('long', {});
    await until('the job to run', async () => (await job.getState()) === 'active');
    worker.process.kill(signal);
    await worker.waitForLog('draining');
    worker.process.kill(signal);
    await until('the worker to end', () => worker.ended);
    assert.deepEqual(worker.ended, { code: 0, signal: null });
    assert.equal(await job.getState(), 'waiting');
    assert.equal((await queue.getJob(job.id)).attemptsMade, 0);
    await queue.close();
  });
}
