// What BullMQ's own benchmark measures, one task a run: `node bullmq.js TASK BY JOBS`.
//
//   add BY       jobs one after the other, BY of them at a time
//   add-bulk BY  jobs in bulks of BY
//   work BY      a worker with concurrency BY, over jobs that are there already
//
// STORE_URL. When connections stand, scripts are known and Node has warmed up it prints `ready` and waits for a line
// on standard input; with that the clock starts. At the end it prints {"jobs": …, "seconds": …}, and then it stays
// until standard input ends, so that what it used can be read from outside.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const WARM_UP_JOBS = 1_000;
const FILL_BULK = 100;
const PATIENCE_MS = 180_000;

const [task, byText, jobsText] = process.argv.slice(2);
const by = Number(byText);
const jobs = Number(jobsText);
const connection = new Redis(process.env.STORE_URL ?? 'redis://127.0.0.1:6379', { maxRetriesPerRequest: null });
const lines = createInterface({ input: process.stdin });

// `width` members of `depth` objects, one within the other: of 10 and 10 it is 4 kB of JSON.
function nested(width, depth) {
  const inner = (left) => (left === 0 ? {} : { [randomUUID()]: inner(left - 1) });
  return Object.assign({}, ...Array.from({ length: width }, () => inner(depth)));
}

async function add(queue, count) {
  const data = nested(10, 10);
  let left = count;
  const one = async () => {
    while (left > 0) {
      left -= 1;
      await queue.add('test', data);
    }
  };
  await Promise.all(Array.from({ length: by }, one));
}

async function addBulk(queue, count, bulk) {
  const data = nested(1, 1);
  for (let done = 0; done < count; done += bulk) {
    const length = Math.min(bulk, count - done);
    await queue.addBulk(Array.from({ length }, () => ({ name: 'test', data })));
  }
}

// Prepares, and gives back what the clock is about.
async function worker(queue, count) {
  await addBulk(queue, count, FILL_BULK);
  const result = nested(1, 1);
  const worker = new Worker(queue.name, async () => result, { connection, concurrency: by, autorun: false });
  await worker.waitUntilReady();
  return async () => {
    const done = new Promise((resolve, reject) => {
      let completed = 0;
      worker.on('completed', () => {
        completed += 1;
        if (completed === count) resolve();
      });
      worker.on('failed', (job, error) => reject(error));
      worker.on('error', reject);
      worker.run().catch(reject);
    });
    await done;
    return () => worker.close();
  };
}

const TASKS = {
  add: async (queue, count) => () => add(queue, count),
  'add-bulk': async (queue, count) => () => addBulk(queue, count, by),
  work: worker,
};

const prepare = TASKS[task];
if (!prepare || !(by >= 1) || !(jobs >= 1)) throw new Error('node bullmq.js add|add-bulk|work BY JOBS');
setTimeout(() => { throw new Error(`not done after ${PATIENCE_MS} ms`); }, PATIENCE_MS).unref();

const warm = await prepare(new Queue('warm-up', { connection }), WARM_UP_JOBS);
const close = await warm();
await close?.();
const run = await prepare(new Queue('bench', { connection }), jobs);
console.log('ready');
await once(lines, 'line');
const began = performance.now();
await run();
console.log(JSON.stringify({ jobs, seconds: (performance.now() - began) / 1_000 }));
await once(lines, 'close');
process.exit(0);
