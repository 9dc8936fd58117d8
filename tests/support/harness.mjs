// What every JavaScript test stands on: the engine under test, child processes with logs, waiting.
//
// Owns the children of one test file: they end with the file, and their logs are shown when it
// fails. The engine is named by THALI_TEST_ENGINE:
//   redis            Debian's redis-server: the reference; tests that need Thali are skipped
//   thali            `thali serve` with its own store
//   thali-on-redis   `thali serve --store` in front of a redis-server
//   node             bench/peers (Express, BullMQ, Socket.IO) on a redis-server, which speaks the same
//                    vocabulary: shows that a test judges what it should
// The binary is THALI_BIN, else target/e2e/thali. Each file starts its own engine, so files run
// side by side and may flush what they like.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const TESTS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export const ROOT = path.resolve(TESTS, '..');
export const ENGINE = process.env.THALI_TEST_ENGINE ?? 'redis';
export const THALI_BIN = path.resolve(ROOT, process.env.THALI_BIN ?? 'target/e2e/thali');

/** For `test(name, needsHttp, fn)`: skips where the engine has no HTTP, sockets and workers. */
export const needsHttp = { skip: ENGINE === 'redis' && 'a store alone has no HTTP' };
/** For what the stack of bench/peers does not have either. */
export const needsThali = { skip: !ENGINE.startsWith('thali') && 'needs Thali' };

const START_TIMEOUT_MS = 20_000;
const POLL_MS = 10;
const LOG_SHOWN_MAX = 6_000;

const children = new Set();
const folders = new Set();

process.on('exit', (code) => {
  for (const child of children) {
    if (code || process.exitCode) {
      process.stdout.write(`--- log of ${child.name}\n${child.log.slice(-LOG_SHOWN_MAX)}\n---\n`);
    }
    if (!child.ended) child.process.kill('SIGKILL');
  }
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});

/** Polls `condition` until it gives something truthy, and returns that. */
export async function until(what, condition, timeoutMs = 10_000) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await delay(POLL_MS);
  }
}

/** Resolves with the first arguments of `event` on `emitter`; rejects after the timeout. */
export async function next(emitter, event, timeoutMs = 10_000) {
  const args = new Promise((resolve) => emitter.once(event, (...values) => resolve(values)));
  const late = AbortSignal.timeout(timeoutMs);
  return Promise.race([args, once(late, 'abort').then(() => Promise.reject(new Error(`no ${event} in ${timeoutMs} ms`)))]);
}

const CLAIMS = path.join(os.tmpdir(), 'thali-client-test-ports');

/** Files run beside each other: each writes its process id where a port is its own. */
function claim(port) {
  const file = path.join(CLAIMS, String(port));
  fs.mkdirSync(CLAIMS, { recursive: true });
  try {
    fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  // Who is gone needs no port; who may be about to write its id keeps it.
  try {
    const owner = Number(fs.readFileSync(file, 'utf8'));
    if (owner > 0 && !fs.existsSync(`/proc/${owner}`)) fs.rmSync(file, { force: true });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  return false;
}

/**
 * A port that nobody has and that no other test file asks for while this process lives.
 *
 * Below the kernel's ephemeral ports and above the range of the Rust test kit.
 */
export async function freePort() {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = 30_000 + Math.floor(Math.random() * 2_700);
    if (!claim(port)) continue;
    const free = await new Promise((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error('no free port');
}

export function tempFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'thali-test-'));
  // Run as root, `thali work` gives each command a user of its own, who has to get in and write.
  fs.chmodSync(folder, 0o777);
  folders.add(folder);
  return folder;
}

/** One child process with its log. */
export class Child {
  constructor(name, command, args, options = {}) {
    this.name = name;
    this.log = '';
    this.process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.process.once('exit', (code, signal) => { this.ended = { code, signal }; });
    this.process.once('error', (error) => {
      this.log += `\n${error}`;
      this.ended = { code: -1, signal: null };
    });
    const keep = (chunk) => { this.log += chunk; };
    this.process.stdout?.setEncoding('utf8').on('data', keep);
    this.process.stderr?.setEncoding('utf8').on('data', keep);
    children.add(this);
    // A child must not keep the file alive after its last test; the handler of `exit` ends it.
    for (const handle of [this.process, this.process.stdout, this.process.stderr]) handle?.unref();
  }

  get pid() { return this.process.pid; }

  async waitForLog(text, timeoutMs = START_TIMEOUT_MS) {
    await until(`${JSON.stringify(text)} in the log of ${this.name}`, () => {
      if (this.log.includes(text)) return true;
      if (this.ended) throw new Error(`${this.name} ended (${JSON.stringify(this.ended)}):\n${this.log.slice(-LOG_SHOWN_MAX)}`);
      return false;
    }, timeoutMs);
  }

  /** SIGKILL, at once; resolves when the process is gone. */
  async kill9() {
    if (!this.ended) this.process.kill('SIGKILL');
    await until(`${this.name} to be gone`, () => this.ended);
  }

  /** SIGTERM and a clean end. */
  async terminate(timeoutMs = START_TIMEOUT_MS) {
    if (!this.ended) this.process.kill('SIGTERM');
    await until(`${this.name} to end`, () => this.ended, timeoutMs);
    return this.ended;
  }
}

export async function startRedis({ port, dir = tempFolder(), args = [] } = {}) {
  port ??= await freePort();
  const settings = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', dir, ...args].map(String);
  const child = new Child('redis-server', 'redis-server', settings);
  await child.waitForLog('Ready to accept connections');
  return { child, port, dir };
}

/** The peer's API and gateway on a store. */
async function startPeer({ httpPort, store }) {
  httpPort ??= await freePort();
  const child = new Child('peer server', process.execPath, [path.join(ROOT, 'bench/peers/server.js')], {
    env: { ...process.env, PORT: String(httpPort), STORE_URL: store },
  });
  await child.waitForLog('Ready to accept connections');
  return { child, httpPort };
}

/** One more API and gateway on the engine's store, as a fleet would have. */
export async function startGateway(engine, httpPort) {
  const start = ENGINE === 'node' ? startPeer : startServe;
  const part = await start({ httpPort, store: engine.url });
  return { ...part, http: `http://${engine.host}:${part.httpPort}` };
}

/** `thali serve` on free ports; with `store` (a URL) in front of that store. */
export async function startServe({ port, httpPort, store, dir = tempFolder(), args = [] } = {}) {
  port ??= await freePort();
  httpPort ??= await freePort();
  const place = store ? ['--store', store] : ['--port', port, '--dir', dir];
  const settings = ['serve', '--http-port', httpPort, ...place, ...args].map(String);
  const child = new Child('thali serve', THALI_BIN, settings, { cwd: dir });
  await child.waitForLog('Ready to accept connections');
  return { child, port, httpPort, dir };
}

/**
 * Starts the engine of this run: `{host, port, url, http, parts, stop()}`. `http` is the base URL of
 * API and sockets, undefined on redis. `args` go to whatever holds the data (append-only file on),
 * `serveArgs` to `thali serve` alone.
 */
export async function startEngine({ durable = false, args = [], serveArgs = [] } = {}) {
  const host = '127.0.0.1';
  const parts = {};
  const durability = durable ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'];
  if (ENGINE === 'thali') {
    parts.serve = await startServe({ args: [...durability, ...args, ...serveArgs] });
  } else {
    parts.store = await startRedis({ args: [...durability, ...args] });
    const store = `redis://${host}:${parts.store.port}`;
    if (ENGINE === 'thali-on-redis') parts.serve = await startServe({ store, args: serveArgs });
    if (ENGINE === 'node') parts.serve = await startPeer({ store });
  }
  const port = (parts.store ?? parts.serve).port;
  return {
    host,
    port,
    url: `redis://${host}:${port}`,
    http: parts.serve && `http://${host}:${parts.serve.httpPort}`,
    parts,
    async stop() {
      for (const part of [parts.serve, parts.store]) await part?.child.terminate();
    },
  };
}

/** `thali work QUEUE … -- COMMAND` on the engine's store. */
export function startWork(engine, queue, command, { cwd = tempFolder(), options = [], env = {} } = {}) {
  if (ENGINE === 'node') {
    return new Child('peer worker', process.execPath, [path.join(ROOT, 'bench/peers/worker.js'), ...command], {
      cwd,
      env: { ...process.env, QUEUE: queue, STORE_URL: engine.url, ...env },
    });
  }
  return new Child('thali work', THALI_BIN, ['work', queue, '--store', engine.url, ...options, '--', ...command], {
    cwd,
    env: { ...process.env, ...env },
  });
}

/**
 * `thali demo` on free ports, on the store of `engine` where that is another than Thali's own.
 * THALI_DEMO_URL names one that runs already.
 */
export async function startDemo() {
  const running = process.env.THALI_DEMO_URL;
  if (running) return { url: running, httpPort: Number(new URL(running).port), async stop() {} };
  const dir = tempFolder();
  const [port, httpPort] = [await freePort(), await freePort()];
  const store = ENGINE === 'thali-on-redis' ? await startRedis() : undefined;
  const place = store ? ['--store', `redis://127.0.0.1:${store.port}`] : ['--port', port, '--dir', dir];
  const child = new Child('thali demo', THALI_BIN, ['demo', '--http-port', httpPort, ...place].map(String), { cwd: dir });
  const url = `http://127.0.0.1:${httpPort}`;
  await child.waitForLog(url);
  return {
    url,
    httpPort,
    async stop() {
      await child.terminate();
      await store?.child.terminate();
    },
  };
}

/** A wire that can be cut: a port that forwards to `targetPort` until `cut()`, and again after `mend()`. */
export async function startWire(targetPort) {
  const open = new Set();
  let whole = true;
  const server = net.createServer((near) => {
    if (!whole) {
      near.destroy();
      return;
    }
    const far = net.connect(targetPort, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on('error', () => {}).on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  const port = await freePort();
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve); });
  return {
    port,
    cut() {
      whole = false;
      for (const socket of open) socket.destroy();
    },
    mend() { whole = true; },
    close() {
      this.cut();
      server.close();
    },
  };
}

/** One JSON request to the engine's HTTP side; resolves with `{status, body}`. */
export async function api(engine, method, where, body) {
  const response = await fetch(engine.http + where, {
    method,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text) };
}
