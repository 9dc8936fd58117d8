// TLS alone: clients of others, the layers above the store in its own process, and a fleet that dials it.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import Redis from 'ioredis';
import { ENGINE, TESTS, api, freePort, startServe, startWork, tempFolder, until } from '../support/harness.mjs';

const skip = ENGINE !== 'thali' && 'certificates are for a store of Thali';
const folder = tempFolder();
const file = (name) => path.join(folder, name);
const host = '127.0.0.1';
let store;
let tlsPort;

function openssl(...args) {
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
}

function makeCertificates() {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-batch'];
  openssl('req', '-x509', '-subj', '/CN=Authority', '-keyout', 'ca.key', '-out', 'ca.crt', ...key);
  fs.writeFileSync(file('extensions'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  for (const name of ['server', 'client']) {
    openssl('req', '-new', '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`, ...key);
    openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.crt`, '-CA', 'ca.crt', '-CAkey', 'ca.key',
      '-CAcreateserial', '-days', '2', '-extfile', 'extensions');
  }
}

before(async () => {
  if (skip) return;
  makeCertificates();
  tlsPort = await freePort();
  store = await startServe({
    port: 0,
    args: ['--appendonly', 'no', '--tls-port', tlsPort, '--tls-cert-file', file('server.crt'),
      '--tls-key-file', file('server.key'), '--tls-ca-cert-file', file('ca.crt')],
  });
});
after(() => store?.child.terminate());

test('ioredis: a pipeline, a large value, messages', { skip }, async () => {
  const tls = { ca: fs.readFileSync(file('ca.crt')), cert: fs.readFileSync(file('client.crt')), key: fs.readFileSync(file('client.key')) };
  const connect = () => new Redis({ host, port: tlsPort, tls });
  const [redis, listener] = [connect(), connect()];
  const pipeline = redis.pipeline();
  for (let i = 0; i < 100_000; i += 1) pipeline.echo(i);
  const replies = await pipeline.exec();
  assert.ok(replies.every(([error, value], i) => !error && value === String(i)));
  const large = Buffer.alloc(20_000_000, 'thali');
  await redis.set('large', large);
  assert.ok(large.equals(await redis.getBuffer('large')));
  await listener.subscribe('news');
  const heard = new Promise((resolve) => { listener.once('message', (_, text) => resolve(text)); });
  await redis.publish('news', 'hello');
  assert.equal(await heard, 'hello');
  for (const client of [redis, listener]) client.disconnect();
});

test('redis-py', { skip }, () => {
  const script = `
import redis
client = redis.Redis(port=${tlsPort}, ssl=True, ssl_ca_certs="${file('ca.crt')}", ssl_certfile="${file('client.crt')}",
                     ssl_keyfile="${file('client.key')}", protocol=3)
assert client.set("a", b"x" * 5_000_000)
assert client.get("a") == b"x" * 5_000_000
with client.pipeline() as pipe:
    for i in range(10_000):
        pipe.rpush("list", i)
    assert pipe.execute()[-1] == 10_000
`;
  const ran = spawnSync(path.join(TESTS, '.venv/bin/python'), ['-c', script], { encoding: 'utf8' });
  assert.equal(ran.status, 0, `${ran.error ?? ''}${ran.stderr}`);
});

test('jobs come in by a fleet over TLS, and are done by a worker over TLS', { skip }, async () => {
  const url = `rediss://${host}:${tlsPort}`;
  const files = ['--store-ca', file('ca.crt'), '--store-cert', file('client.crt'), '--store-key', file('client.key')];
  const fleet = await startServe({ store: url, args: files });
  const worker = startWork({ url }, 'q', ['cat'], { options: [...files, '--keep-user'] });
  for (const httpPort of [fleet.httpPort, store.httpPort]) {
    const engine = { http: `http://${host}:${httpPort}` };
    const { body } = await api(engine, 'POST', '/api/queues/q/jobs', { name: 'x', data: { n: httpPort } });
    const done = await until('the job to be done', async () => {
      const { body: job } = await api(engine, 'GET', `/api/queues/q/jobs/${body.id}`);
      return job.state === 'completed' && job;
    });
    assert.deepEqual(done.returnvalue, { n: httpPort });
    // Through the official crate.
    assert.equal((await api(engine, 'DELETE', `/api/queues/q/jobs/${body.id}`)).status, 204);
  }
  await worker.terminate();
  await fleet.child.terminate();
});

test('without the authority the store is not believed, and the start says so', { skip }, async () => {
  const refused = startServe({ store: `rediss://${host}:${tlsPort}` });
  await assert.rejects(refused, /the store at rediss:.*cannot be reached/);
});
