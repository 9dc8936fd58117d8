// redis-py, in the virtual environment that `cargo xtask test` makes; the cases are in redis_py.py.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { TESTS, startEngine } from '../support/harness.mjs';

test('redis-py', async () => {
  const engine = await startEngine();
  const python = path.join(TESTS, '.venv/bin/python');
  const ran = spawnSync(python, [path.join(TESTS, 'clients/redis_py.py')], {
    env: { ...process.env, STORE_PORT: String(engine.port) },
    encoding: 'utf8',
  });
  await engine.stop();
  assert.equal(ran.status, 0, `${ran.error ?? ''}${ran.stderr}`);
});
