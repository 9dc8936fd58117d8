// Connection state recovery with the stock client: it keeps its secret and its offset by itself.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { api, needsThali, next, startEngine, startWire, until } from '../support/harness.mjs';

let engine;
const open = [];

before(async () => {
  if (!needsThali.skip) engine = await startEngine({ serveArgs: ['--gateway-recovery', '60'] });
});
after(() => engine?.stop());
afterEach(async () => { await Promise.all(open.splice(0).map((close) => close())); });

for (const transports of [['websocket'], ['polling']]) {
  test(`what was missed comes after a cut wire, once and in order (${transports})`, needsThali, async () => {
    const wire = await startWire(engine.parts.serve.httpPort);
    const socket = io(`http://127.0.0.1:${wire.port}`, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
    open.push(() => socket.disconnect(), () => wire.close());
    const heard = [];
    socket.on('n', (n) => heard.push(n));
    await next(socket, 'connect');
    assert.equal(socket.recovered, false);
    const room = `recovery-${transports}`;
    assert.equal((await socket.emitWithAck('subscribe', room)).ok, true);
    const say = async (n) => api(engine, 'POST', `/api/rooms/${room}/events`, { event: 'n', data: n });
    await say(0);
    await until('the first', () => heard.length === 1);
    let said = 1;
    for (let round = 0; round < 3; round += 1) {
      const { id } = socket;
      const back = next(socket, 'connect');
      wire.cut();
      await until('the loss', () => !socket.connected);
      for (const end = said + 20; said < end; said += 1) await say(said);
      wire.mend();
      await back;
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      await until('everything', () => heard.length >= said);
      assert.deepEqual(heard, [...Array(said).keys()]);
    }
  });
}
