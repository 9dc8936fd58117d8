// The demo in headless Chromium: what a stranger sees, without polling, also over a bad line.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { startDemo, startWire, until } from '../support/harness.mjs';

const VERDICT_MS = 30_000;
/** Long enough to cut the line while it runs, short enough for any time limit. */
const SLEEPER = 'import time\ntime.sleep(0.7)\nprint("slept")\n';

let demo;
let browser;
let known;
const open = [];

before(async () => {
  demo = await startDemo();
  known = await (await fetch(`${demo.url}/demo/samples.json`)).json();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});
afterEach(async () => { for (const close of open.splice(0).reverse()) await close(); });

/** A visitor: a browser profile of their own with the page open and the socket live. */
async function visit(url = demo.url) {
  const context = await browser.newContext();
  open.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(VERDICT_MS);
  const requests = [];
  page.on('request', (request) => requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
  await page.goto(url);
  const at = (id) => page.getByTestId(id);
  await page.locator('[data-testid=connection][data-state=online]').waitFor();
  await at('run').waitFor();
  return {
    page,
    at,
    requests,
    /** Hands in what is in the editor; resolves with the job's id. */
    async run() {
      const answered = page.waitForResponse((response) => response.url().endsWith('/jobs') && response.status() === 201);
      await at('run').click();
      return (await (await answered).json()).id;
    },
    async runSample(id) {
      await at('sample').selectOption(id);
      return this.run();
    },
    async runProgram(code, language = 'python') {
      await at('language').selectOption(language);
      await at('code').fill(code);
      return this.run();
    },
    /** The verdict of a submission in the visitor's own list. */
    async verdict(id) {
      await page.locator(`[data-testid=submission][data-id="${id}"]:not([data-verdict=""])`).waitFor();
      return page.locator(`[data-testid=submission][data-id="${id}"]`).getAttribute('data-verdict');
    },
    ids(list) {
      return page.locator(`[data-testid=${list}]`).evaluateAll((rows) => rows.map((row) => row.dataset.id));
    },
  };
}

const sampleFor = (verdict) => known.samples.find((sample) => sample.expected === verdict && isInstalled(sample));
const isInstalled = ({ language }) => known.languages.some(({ id, installed }) => id === language && installed);

test('a program is handed in, its cases pass one by one, the verdict comes by itself', async () => {
  const visitor = await visit();
  await visitor.page.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => {
      const result = document.querySelector('[data-testid=result]');
      const progress = document.querySelector('[data-testid=progress]');
      if (result) window.seen.push([result.dataset.state, Number(progress?.dataset.passed ?? 0)]);
    }).observe(document.body, { subtree: true, childList: true, attributes: true });
  });
  const id = await visitor.runSample(sampleFor('accepted').id);
  assert.equal(await visitor.verdict(id), 'accepted');
  const seen = await visitor.page.evaluate(() => window.seen);
  const states = new Set(seen.map(([state]) => state));
  assert.ok(states.has('completed') && states.size > 1, `only ${[...states]} was seen`);
  assert.ok(seen.some(([state]) => state === 'active'), `never seen active: ${[...states]}`);
  assert.match(await visitor.at('time').innerText(), /^\d+ ms$/);
  const asked = visitor.requests.filter((request) => request.startsWith('GET /api/'));
  assert.ok(asked.length <= 1, `the page polls: ${asked}`);
});

test('a line that is cut in the middle of a job costs nothing', async () => {
  const wire = await startWire(demo.httpPort);
  open.push(() => wire.close());
  const visitor = await visit(`http://127.0.0.1:${wire.port}`);
  const id = await visitor.runProgram(SLEEPER);
  await visitor.page.locator(`[data-testid=result][data-id="${id}"][data-state=active]`).waitFor();
  wire.cut();
  await visitor.page.locator('[data-testid=connection][data-state=offline]').waitFor();
  await until('the job to end behind the back of the page', async () => {
    const job = await (await fetch(`${demo.url}/api/queues/judge/jobs/${id}`)).json();
    return job.state === 'completed';
  }, VERDICT_MS);
  assert.equal(await visitor.at('result').getAttribute('data-verdict'), '');
  wire.mend();
  assert.equal(await visitor.verdict(id), 'wrong_answer');
  assert.notEqual(await visitor.at('connection').getAttribute('data-returns'), '0');
});

test('a reload in the middle of a job costs nothing', async () => {
  const visitor = await visit();
  const id = await visitor.runProgram(SLEEPER);
  await visitor.page.locator(`[data-testid=result][data-id="${id}"][data-state=active]`).waitFor();
  await visitor.page.reload();
  assert.equal(await visitor.verdict(id), 'wrong_answer');
});

test('two visitors see their own verdicts, and everybody the feed', async () => {
  const [ada, bob, watcher] = await Promise.all([visit(), visit(), visit()]);
  const [good, bad] = await Promise.all([ada.runSample(sampleFor('accepted').id), bob.runSample(sampleFor('wrong_answer').id)]);
  assert.equal(await ada.verdict(good), 'accepted');
  assert.equal(await bob.verdict(bad), 'wrong_answer');
  for (const visitor of [ada, bob, watcher]) {
    await visitor.page.locator(`[data-testid=feed-entry][data-id="${good}"][data-verdict=accepted]`).waitFor();
    await visitor.page.locator(`[data-testid=feed-entry][data-id="${bad}"][data-verdict=wrong_answer]`).waitFor();
  }
  assert.deepEqual(await ada.ids('submission'), [good]);
  assert.deepEqual(await bob.ids('submission'), [bad]);
  assert.deepEqual(await watcher.ids('submission'), []);
});

test('what the editor refuses to send and what the server refuses to take is said', async () => {
  const visitor = await visit();
  await visitor.at('code').fill('   ');
  assert.ok(await visitor.at('run').isDisabled());
  await visitor.page.route('**/api/queues/judge/jobs', (route) => route.fulfill({
    status: 422, contentType: 'application/problem+json', body: JSON.stringify({ title: 'No', detail: 'data.code is too long' }),
  }));
  await visitor.at('code').fill('print(1)');
  await visitor.at('run').click();
  await visitor.page.getByText('data.code is too long').waitFor();
});

test('each of the samples gets the verdict that it deserves', { timeout: 180_000 }, async () => {
  const visitor = await visit();
  const samples = known.samples.filter(isInstalled);
  assert.ok(samples.length >= 16, `${samples.length} samples`);
  const ids = [];
  for (const sample of samples) ids.push(await visitor.runSample(sample.id));
  const wrong = [];
  visitor.page.setDefaultTimeout(120_000);
  for (const [n, { id, expected }] of samples.entries()) {
    const verdict = await visitor.verdict(ids[n]);
    if (verdict !== expected) wrong.push(`${id}: ${verdict} instead of ${expected}`);
  }
  assert.deepEqual(wrong, []);
});
