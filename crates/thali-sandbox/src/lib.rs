//! Runs one untrusted command inside Landlock, seccomp and resource limits.
