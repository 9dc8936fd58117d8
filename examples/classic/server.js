// The classic app of every guide: Express takes an order and queues it with Bull; a worker in another
// process says over Redis pub/sub how it went; Socket.IO tells the browser that waits.
//
// Nothing here knows of Thali. REDIS_PORT decides what it runs on.

const http = require('node:http');
const path = require('node:path');
const Queue = require('bull');
const express = require('express');
const { createClient } = require('redis');
const { Server } = require('socket.io');

const PORT = Number(process.env.PORT ?? 3000);
const REDIS_HOST = process.env.REDIS_HOST ?? '127.0.0.1';
const REDIS_PORT = Number(process.env.REDIS_PORT ?? 6379);

async function main() {
  const app = express();
  const server = http.createServer(app);
  const io = new Server(server);
  const orders = new Queue('orders', { redis: { host: REDIS_HOST, port: REDIS_PORT } });
  const cache = await createClient({ socket: { host: REDIS_HOST, port: REDIS_PORT } }).connect();
  const subscriber = await cache.duplicate().connect();

  app.use(express.json());
  app.use(express.static(path.join(__dirname, 'public')));

  app.post('/orders', async (request, response) => {
    const { user, item } = request.body ?? {};
    if (typeof user !== 'string' || typeof item !== 'string') {
      response.status(400).json({ error: 'user and item must be strings' });
      return;
    }
    const job = await orders.add({ user, item }, { attempts: 3, backoff: 100 });
    await cache.incr(`orders:of:${user}`);
    response.status(202).json({ id: job.id });
  });

  app.get('/orders/:id', async (request, response) => {
    const job = await orders.getJob(request.params.id);
    if (!job) {
      response.status(404).json({ error: 'no such order' });
      return;
    }
    response.json({ id: job.id, state: await job.getState(), result: job.returnvalue });
  });

  app.get('/users/:user/count', async (request, response) => {
    response.json({ count: Number((await cache.get(`orders:of:${request.params.user}`)) ?? 0) });
  });

  io.on('connection', (socket) => {
    socket.on('login', (user, done) => {
      socket.join(`user:${user}`);
      done?.();
    });
  });

  await subscriber.subscribe('order-events', (message) => {
    const event = JSON.parse(message);
    io.to(`user:${event.user}`).emit('order', event);
  });

  server.listen(PORT, '127.0.0.1', () => console.log(`classic: http://127.0.0.1:${PORT}`));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
