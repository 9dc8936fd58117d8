// redis-cli: typed by hand, piped, scanning, mass insertion.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { startEngine, tempFolder } from '../support/harness.mjs';

let engine;
before(async () => { engine = await startEngine(); });
after(() => engine.stop());

function cli(args, input) {
  const ran = spawnSync('redis-cli', ['-p', engine.port, ...args].map(String), { input, encoding: 'utf8' });
  return ran.stdout.trimEnd() + ran.stderr;
}

test('answers and refuses in the words of Redis', () => {
  assert.equal(cli(['set', 'greeting', 'hello', 'EX', '100']), 'OK');
  assert.equal(cli(['get', 'greeting']), 'hello');
  assert.match(cli(['get']), /^ERR wrong number of arguments for 'get' command/);
  assert.match(cli(['nosuch', 'a', 'b']), /^ERR unknown command 'nosuch', with args beginning with: 'a' 'b'/);
});

test('a session of lines from standard input', () => {
  assert.equal(cli([], 'RPUSH l a b c\nLRANGE l 0 -1\nTYPE l\n'), '3\na\nb\nc\nlist');
});

test('RESP3 shows doubles and maps', () => {
  cli(['zadd', 'z', '1.5', 'm']);
  assert.equal(cli(['-3', 'zscore', 'z', 'm']), '1.5');
  cli(['hset', 'h', 'f', 'v']);
  assert.equal(cli(['-3', '--json', 'hgetall', 'h']), '{"f":"v"}');
});

test('--scan walks the keys and --bigkeys finds the largest', () => {
  cli(['rpush', 'big', ...Array.from({ length: 50 }, (_, n) => n)]);
  assert.match(cli(['--scan', '--pattern', 'bi*']), /^big$/m);
  assert.match(cli(['--bigkeys']), /Biggest\s+list found .*big.* has 50 items/);
});

test('--pipe takes a thousand raw commands', () => {
  const commands = Array.from({ length: 1000 }, (_, n) => {
    const key = `pipe:${n}`;
    return `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$1\r\nx\r\n`;
  }).join('');
  assert.match(cli(['--pipe'], commands), /errors: 0, replies: 1000/);
});

test('--eval runs a script file with keys and arguments', () => {
  const script = path.join(tempFolder(), 'add.lua');
  fs.writeFileSync(script, 'return {KEYS[1], ARGV[1] + 1}');
  assert.equal(cli(['--eval', script, 'k1', ',', '41']), 'k1\n42');
});
