// The stack a team would build: Express takes jobs into BullMQ, and Socket.IO tells the browser.
//
// It speaks Thali's vocabulary (routes, rooms, events), so that one generator and one set of tests
// drive both. Written as a good team would write it: one connection a purpose, the official Redis
// adapter, WebSocket without compression, events from BullMQ's stream only.
//
// PORT, STORE_URL; BUS=0 leaves out the adapter, as a single-node team would.

import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Queue, QueueEvents } from 'bullmq';
import express from 'express';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

const { PORT = '3000', STORE_URL = 'redis://127.0.0.1:6379', BUS = '1' } = process.env;
const connect = () => new Redis(STORE_URL, { maxRetriesPerRequest: null });
const store = connect();

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.use(express.json());

const http = createServer(app);
const io = new Server(http, { perMessageDeflate: false, cors: { origin: '*' } });
if (BUS === '1') io.adapter(createAdapter(connect(), connect()));

// Queue → its producer and the promise of its listener.
const queues = new Map();

function open(name) {
  let entry = queues.get(name);
  if (!entry) {
    const queue = new Queue(name, { connection: store });
    // From a second ago: with the default of "from now", what happens between the connection and the
    // first blocking read is never heard of.
    const lastEventId = `${Date.now() - 1000}-0`;
    const events = new QueueEvents(name, { connection: connect(), lastEventId });
    entry = { queue, ready: Promise.all([queue.waitUntilReady(), events.waitUntilReady()]) };
    relay(name, events);
    queues.set(name, entry);
  }
  return entry;
}

function relay(queue, events) {
  const tell = (id, state, more) => {
    const room = `job:${queue}:${id}`;
    if (BUS === '1' || io.sockets.adapter.rooms.has(room)) {
      io.to([room, `queue:${queue}`]).local.emit('job', { queue, id, state, ...more });
    }
  };
  events.on('waiting', ({ jobId }) => tell(jobId, 'waiting'));
  events.on('active', ({ jobId }) => tell(jobId, 'active'));
  events.on('progress', ({ jobId, data }) => tell(jobId, 'active', { progress: data }));
  events.on('completed', ({ jobId, returnvalue }) => tell(jobId, 'completed', { returnvalue }));
  events.on('failed', ({ jobId, failedReason }) => tell(jobId, 'failed', { failedReason }));
  events.on('error', () => {});
}

function view(queue, { id, progress, returnvalue, failedReason, finishedOn }) {
  const state = !finishedOn ? 'waiting' : failedReason ? 'failed' : 'completed';
  return { queue, id, state, progress, returnvalue, failedReason };
}

app.post('/api/queues/:queue/jobs', async (request, response) => {
  const { queue, ready } = open(request.params.queue);
  await ready;
  const add = ({ name, data, opts }) => queue.add(name, data, opts);
  if (Array.isArray(request.body)) {
    const jobs = await queue.addBulk(request.body);
    response.status(201).json({ ids: jobs.map((job) => job.id) });
    return;
  }
  response.status(201).json({ id: (await add(request.body)).id });
});

app.post('/api/rooms/:room/events', (request, response) => {
  io.to(request.params.room).emit(request.body.event, request.body.data);
  response.status(202).json({ ok: true });
});

app.get('/healthz', (request, response) => response.json({ ok: true }));

io.on('connection', (socket) => {
  socket.on('subscribe', async (room, ...rest) => {
    const [kind, queue, id] = room.split(':');
    const entry = (kind === 'job' || kind === 'queue') && queue && open(queue);
    await entry?.ready;
    await socket.join(room);
    // A job that ended before its room was joined would never be heard of.
    const job = kind === 'job' && id && (await entry.queue.getJob(id));
    rest.at(-1)?.({ ok: true, room, job: job ? view(queue, job) : undefined });
  });
  socket.on('unsubscribe', async (room, done) => {
    await socket.leave(room);
    done?.({ ok: true });
  });
  socket.on('publish', (room, event, data, done) => {
    io.to(room).emit(event, data);
    done?.({ ok: true });
  });
  socket.on('presence', async (room, done) => {
    const sockets = await io.in(room).fetchSockets();
    done?.({ ok: true, count: sockets.length, members: sockets.map(({ id }) => ({ id })) });
  });
});

// PUBLISH room:<name> <json> reaches the room as `message`.
const bus = connect();
bus.psubscribe('room:*');
bus.on('pmessage', (pattern, channel, text) => {
  io.to(channel.slice('room:'.length)).local.emit('message', JSON.parse(text));
});

http.listen(Number(PORT), '127.0.0.1', () => console.log('Ready to accept connections'));
process.on('SIGTERM', () => process.exit(0));
