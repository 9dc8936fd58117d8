// The classic app's worker: takes orders from Bull, reports each step over Redis pub/sub.

const Queue = require('bull');
const { createClient } = require('redis');

const REDIS_HOST = process.env.REDIS_HOST ?? '127.0.0.1';
const REDIS_PORT = Number(process.env.REDIS_PORT ?? 6379);
const SOLD_OUT = 'unicorn';

async function main() {
  const orders = new Queue('orders', { redis: { host: REDIS_HOST, port: REDIS_PORT } });
  const redis = await createClient({ socket: { host: REDIS_HOST, port: REDIS_PORT } }).connect();
  const tell = (job, state, more) => redis.publish('order-events', JSON.stringify({ id: job.id, user: job.data.user, state, ...more }));

  orders.process(4, async (job) => {
    await tell(job, 'packing', { attempt: job.attemptsMade + 1 });
    await job.progress(50);
    if (job.data.item === SOLD_OUT) throw new Error(`${job.data.item} is sold out`);
    return { shipped: job.data.item };
  });
  orders.on('completed', (job, result) => tell(job, 'shipped', { result }));
  orders.on('failed', (job, error) => {
    if (job.attemptsMade >= job.opts.attempts) tell(job, 'refused', { reason: error.message });
  });
  await orders.isReady();
  console.log('classic: worker ready');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
