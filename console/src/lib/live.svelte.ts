// What is alive on the page: the socket, the visitor's own submissions, everybody's verdicts.
//
// The own submissions are kept for the tab's life, so that a reload or a lost connection loses
// nothing: on every connection the unfinished ones are subscribed again, and the acknowledgement
// brings what happened meanwhile.

import { io, type Socket } from "socket.io-client";
import * as api from "./api";
import { isFinal, type FeedEntry, type JobView, type Program, type Progress, type SubscribeAck } from "./types";
import type { Submission } from "./types";

const FEED_ROOM = "judge:feed";
const FEED_MAX = 50;
const SUBMISSIONS_MAX = 50;
const STORAGE_KEY = "thali-judge-submissions";
const ACK_PATIENCE_MS = 10_000;
const RETRY_MS = 1_000;

export type Connection = "connecting" | "online" | "offline";

export class Live {
  connection = $state<Connection>("connecting");
  submissions = $state<Submission[]>(restore());
  feed = $state<FeedEntry[]>([]);
  /** How often the connection came back. */
  returns = $state(0);

  #socket: Socket;

  constructor() {
    this.#socket = io({ transports: ["websocket", "polling"], reconnectionDelay: 250, reconnectionDelayMax: 3000 });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", () => (this.connection = "offline"));
    this.#socket.on("connect_error", () => (this.connection = "offline"));
    this.#socket.on("job", (job: JobView) => this.#update(job));
    this.#socket.on("message", (entry: unknown) => this.#verdict(entry));
    this.#socket.on("verdict", (entry: unknown) => this.#verdict(entry));
  }

  /** Hands a program in and follows it. Throws what the server has against it. */
  async submit(program: Program, title: string): Promise<string> {
    const [id, ahead] = await Promise.all([api.submit(program), api.waiting().catch(() => null)]);
    this.submissions.unshift({
      id,
      title,
      language: program.language,
      problem: program.problem,
      at: Date.now(),
      state: "waiting",
      ahead,
      progress: null,
      verdict: null,
      failedReason: null,
    });
    this.submissions.length = Math.min(this.submissions.length, SUBMISSIONS_MAX);
    this.#store();
    if (this.#socket.connected) this.#follow(id);
    return id;
  }

  close() {
    this.#socket.close();
  }

  #connected() {
    if (this.connection === "offline") this.returns += 1;
    this.connection = "online";
    this.#subscribe(FEED_ROOM);
    for (const submission of this.submissions) {
      if (!isSettled(submission)) this.#follow(submission.id);
    }
  }

  #follow(id: string) {
    this.#subscribe(`job:${api.QUEUE}:${id}`);
  }

  /** Asks until there is an answer that stays: what is late, or refused for the moment, is asked for again. */
  #subscribe(room: string) {
    this.#socket.timeout(ACK_PATIENCE_MS).emit("subscribe", room, (error: Error | null, ack?: SubscribeAck) => {
      // A lost connection subscribes to everything again when it returns.
      if (!this.#socket.connected) return;
      if (error) return this.#subscribe(room);
      if (ack?.ok && ack.job) this.#update(ack.job);
      if (ack?.error?.retry) setTimeout(() => this.#socket.connected && this.#subscribe(room), RETRY_MS);
    });
  }

  #update(job: JobView) {
    const submission = this.submissions.find((own) => own.id === job.id && job.queue === api.QUEUE);
    if (!submission || isSettled(submission)) return;
    submission.state = job.state;
    const progress = asProgress(job.progress);
    if (progress) submission.progress = progress;
    if (job.state !== "waiting") submission.ahead = null;
    if (isFinal(job.state)) {
      submission.verdict = job.returnvalue ?? null;
      submission.failedReason = job.failedReason ?? null;
    }
    if (isSettled(submission)) {
      this.#socket.emit("unsubscribe", `job:${api.QUEUE}:${job.id}`, () => {});
    }
    this.#store();
  }

  #verdict(said: unknown) {
    const entry = said as FeedEntry;
    if (typeof entry?.id !== "string" || typeof entry.verdict !== "string") return;
    if (this.feed.some((known) => known.id === entry.id)) return;
    this.feed.unshift(entry);
    this.feed.length = Math.min(this.feed.length, FEED_MAX);
    // One that is done lets the next one start, so everybody who waits moves up.
    for (const submission of this.submissions) {
      if (submission.state === "waiting" && submission.ahead) submission.ahead -= 1;
    }
  }

  #store() {
    try {
      sessionStorage.setItem(STORAGE_KEY, JSON.stringify(this.submissions));
    } catch {
      // Storage is a convenience: without it a reload forgets.
    }
  }
}

/** Nothing more is to come. */
function isSettled(submission: Submission): boolean {
  return isFinal(submission.state) && (submission.verdict !== null || submission.failedReason !== null);
}

function asProgress(progress: JobView["progress"]): Progress | null {
  return typeof progress === "object" && progress !== null && "stage" in progress ? progress : null;
}

function restore(): Submission[] {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
    return Array.isArray(stored) ? (stored as Submission[]).slice(0, SUBMISSIONS_MAX) : [];
  } catch {
    return [];
  }
}
