// The page's three HTTP requests. Everything else arrives over the socket.

import type { Program, Samples } from "./types";

export const QUEUE = "judge";
const DAY_S = 24 * 60 * 60;

/** Finished jobs go after a day, and before that when there are very many of them. */
const KEEP = { age: DAY_S, count: 10_000 };

async function read<T>(response: Response): Promise<T> {
  const text = await response.text();
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not Thali's own answer: the status says enough.
  }
  if (response.ok) return body as T;
  const problem = body as { detail?: string; title?: string } | null;
  throw new Error(problem?.detail ?? problem?.title ?? `the server answered ${response.status}`);
}

export async function samples(): Promise<Samples> {
  return read(await fetch("/demo/samples.json"));
}

/** How many jobs are waiting now. */
export async function waiting(): Promise<number> {
  const queue = await read<{ counts?: Record<string, number> }>(await fetch(`/api/queues/${QUEUE}`));
  return (queue.counts?.["waiting"] ?? 0) + (queue.counts?.["prioritized"] ?? 0);
}

/** Hands a program in; the answer is its job's id. */
export async function submit(program: Program): Promise<string> {
  const response = await fetch(`/api/queues/${QUEUE}/jobs`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      name: "judge",
      data: program,
      opts: { attempts: 2, removeOnComplete: KEEP, removeOnFail: KEEP },
    }),
  });
  return (await read<{ id: string }>(response)).id;
}
