// What cannot work is refused at the start: one sentence with what to do, exit code not 0, at once.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Child, freePort, needsThali, startRedis, tempFolder, THALI_BIN, until } from '../support/harness.mjs';

// Far below the retries of a connection that is allowed to come back; a refusal itself takes milliseconds.
const AT_ONCE_MS = 5_000;
let redis;

before(async () => { if (!needsThali.skip) redis = await startRedis({ args: ['--requirepass', 'right'] }); });
after(() => redis?.child.terminate());

async function refusal(args) {
  const child = new Child('thali', THALI_BIN, args.map(String), { cwd: tempFolder() });
  const ended = await until('the refusal', () => child.ended, AT_ONCE_MS);
  assert.equal(ended.code, 1, child.log);
  const said = child.log.split('\n').filter((line) => line.startsWith('thali: '));
  assert.equal(said.length, 1, child.log);
  return said[0];
}

const url = (secret = '') => `redis://${secret}127.0.0.1:${redis.port}`;

test('a store that is not there', needsThali, async () => {
  const gone = `redis://:s3cret@127.0.0.1:${await freePort()}`;
  for (const args of [['serve', '--http-port', await freePort(), '--store', gone], ['work', 'q', '--store', gone, '--', 'true']]) {
    const said = await refusal(args);
    assert.match(said, /^thali: the store at redis:\/\/…@127\.0\.0\.1:\d+ cannot be reached \(.*\); start it, or/);
    assert.doesNotMatch(said, /s3cret/);
  }
});

test('a store that wants another password', needsThali, async () => {
  for (const secret of ['', ':wrong@', 'nobody:right@']) {
    for (const args of [['serve', '--http-port', await freePort(), '--store', url(secret)], ['work', 'q', '--store', url(secret), '--', 'true']]) {
      assert.match(await refusal(args), /wants another user or password .* redis:\/\/USER:PASSWORD@HOST:PORT$/);
    }
  }
});

test('the right password works, and is not shown', needsThali, async () => {
  const serve = new Child('thali serve', THALI_BIN, ['serve', '--http-port', await freePort(), '--store', url(':right@')].map(String), { cwd: tempFolder() });
  await serve.waitForLog('Ready to accept connections');
  assert.doesNotMatch(serve.log, /right/);
  await serve.terminate();
});

test('a command that is not there', needsThali, async () => {
  const said = await refusal(['work', 'q', '--store', url(':right@'), '--', '/nonexistent']);
  assert.match(said, /no command '\/nonexistent'/);
});

test("a working folder that the box's user may not enter", { skip: needsThali.skip || process.getuid() !== 0 }, async () => {
  const folder = tempFolder();
  const { chmodSync } = await import('node:fs');
  chmodSync(folder, 0o700);
  const said = await refusal(['work', 'q', '--store', url(':right@'), '--directory', folder, '--', 'true']);
  assert.match(said, /may not enter the working folder.*--directory.*--keep-user$/);
});
