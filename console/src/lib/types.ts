// The shapes of what the server says.

export type VerdictKind =
  | "accepted"
  | "wrong_answer"
  | "compile_error"
  | "runtime_error"
  | "time_limit"
  | "memory_limit"
  | "process_limit"
  | "output_limit"
  | "forbidden"
  | "unavailable";

export interface Verdict {
  verdict: VerdictKind;
  language: string;
  problem: string;
  case: number | null;
  cases: number;
  detail: string;
  time_ms: number;
  memory_kb: number;
}

export interface Progress {
  stage: "compiling" | "running";
  case: number;
  cases: number;
}

/** A job as rooms tell of it. */
export interface JobView {
  queue: string;
  id: string;
  state: string;
  progress?: Progress | number | null;
  returnvalue?: Verdict | null;
  failedReason?: string | null;
}

export interface SubscribeAck {
  ok: boolean;
  job?: JobView;
  /** `retry`: the same request may go well later. */
  error?: { name: string; message: string; retry: boolean };
}

/** What everybody sees of a verdict. */
export interface FeedEntry {
  id: string;
  language: string;
  verdict: VerdictKind;
  time_ms: number;
}

export interface Sample {
  id: string;
  title: string;
  language: string;
  problem: string;
  code?: string;
  code_base64?: string;
  expected: VerdictKind;
}

export interface Problem {
  id: string;
  title: string;
  statement: string;
  example: { input: string; output: string };
}

export interface Samples {
  languages: { id: string; installed: boolean }[];
  problems: Problem[];
  samples: Sample[];
}

/** What is handed in: `code`, or `code_base64` where the code is not UTF-8. */
export interface Program {
  language: string;
  problem: string;
  code?: string;
  code_base64?: string;
}

/** One of the visitor's own submissions. */
export interface Submission {
  id: string;
  title: string;
  language: string;
  problem: string;
  at: number;
  state: string;
  /** Jobs before this one, as far as known, while it waits. */
  ahead: number | null;
  progress: Progress | null;
  verdict: Verdict | null;
  failedReason: string | null;
}

export const isFinal = (state: string) => state === "completed" || state === "failed";
