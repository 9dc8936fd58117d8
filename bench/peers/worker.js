// The worker of the stack a team would build: BullMQ, returning what it was given.
//
// QUEUE, STORE_URL, CONCURRENCY; with arguments it runs them as a command for each job instead,
// data on standard input, result from standard output, as `thali work` does.

import { spawn } from 'node:child_process';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';

const { QUEUE = 'bench', STORE_URL = 'redis://127.0.0.1:6379', CONCURRENCY = '50' } = process.env;
const [command, ...args] = process.argv.slice(2);

function run(job) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk) => { output += chunk; });
    child.stderr.on('data', (chunk) => { errors += chunk; });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(errors || `exit ${code}`))));
    child.stdin.on('error', () => {});
    child.stdin.end(JSON.stringify(job.data));
  });
}

const worker = new Worker(QUEUE, command ? run : async (job) => job.data, {
  connection: new Redis(STORE_URL, { maxRetriesPerRequest: null }),
  concurrency: Number(CONCURRENCY),
  lockDuration: Number(process.env.LOCK_MS ?? 30_000),
  stalledInterval: Number(process.env.STALLED_MS ?? 30_000),
  maxStalledCount: 100,
});
worker.on('error', () => {});
await worker.waitUntilReady();
console.log('Ready to work');
process.on('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});
