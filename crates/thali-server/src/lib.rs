//! Event loops, sessions, dispatch, pub/sub: the store as a server.
