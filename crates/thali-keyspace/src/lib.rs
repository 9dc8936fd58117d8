//! Slots, shards and their locks, expiry, watches and waiters.
