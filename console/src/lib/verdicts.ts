// Verdicts in words and colours.

import type { Submission, VerdictKind } from "./types";

type Tone = "good" | "bad" | "limit" | "denied" | "busy" | "quiet";

const KINDS: Record<VerdictKind, { label: string; tone: Tone }> = {
  accepted: { label: "Accepted", tone: "good" },
  wrong_answer: { label: "Wrong answer", tone: "bad" },
  compile_error: { label: "Compile error", tone: "bad" },
  runtime_error: { label: "Runtime error", tone: "bad" },
  time_limit: { label: "Time limit", tone: "limit" },
  memory_limit: { label: "Memory limit", tone: "limit" },
  process_limit: { label: "Process limit", tone: "limit" },
  output_limit: { label: "Output limit", tone: "limit" },
  forbidden: { label: "Forbidden", tone: "denied" },
  unavailable: { label: "Not installed", tone: "quiet" },
};

export const LANGUAGES: Record<string, string> = {
  python: "Python",
  c: "C",
  shell: "Shell",
  javascript: "JavaScript",
};

export const language = (id: string) => LANGUAGES[id] ?? id;

export function verdict(kind: string): { label: string; tone: Tone } {
  return KINDS[kind as VerdictKind] ?? { label: kind, tone: "quiet" };
}

/** A submission's state in a word or two. */
export function standing(submission: Submission): { label: string; tone: Tone } {
  if (submission.verdict) return verdict(submission.verdict.verdict);
  switch (submission.state) {
    case "failed":
      return { label: "Not judged", tone: "quiet" };
    case "active":
      return { label: submission.progress?.stage === "compiling" ? "Compiling" : "Running", tone: "busy" };
    case "unknown":
      return { label: "Gone", tone: "quiet" };
    default:
      return { label: "Waiting", tone: "quiet" };
  }
}
